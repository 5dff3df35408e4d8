// Small pieces that all parts of a page use. Text goes in as text, never as markup.

const FACTS = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** The element with this id, or null. */
const byId = (id) => document.getElementById(id);

/** An HTML element with attributes, listeners (functions) and children; texts become text nodes. */
const element = (name, attributes = {}, ...children) => furnished(document.createElement(name), attributes, children);

/** The same for SVG. */
const drawn = (name, attributes = {}, ...children) => furnished(document.createElementNS(SVG, name), attributes, children);

function furnished(made, attributes, children = []) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(key, value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Do what `acts` has for the key that was pressed; with Ctrl, Alt or Meta it is the browser's. */
function pressed(event, acts) {
  if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  acts[event.key]();
}

const clamped = (value, low, high) => Math.min(Math.max(value, low), high);

/** Base64 to bytes. */
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Base64 of float32 to numbers: little-endian, as every browser's machine is. */
const floats = (text) => new Float32Array(bytes(text).buffer);

/** A number for people: about four digits, none of them a trailing zero. */
function figure(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return "-";
  const near = Number(value.toPrecision(digits));
  return value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6) ? near.toExponential() : near.toLocaleString("en", { maximumSignificantDigits: 15 });
}

/** A share as percent. */
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

/** 12,345. */
const whole = (value) => value.toLocaleString("en");

/** Options that charts by epochs share. */
const BY_EPOCH = { x: "epoch", whole: true, read: (x) => `epoch ${whole(x)}` };
const AS_PERCENT = { format: (share) => `${Number((100 * share).toPrecision(4))} %`, say: (share) => percent(share, 2) };

// Helpers for all scripts of a page. Text becomes text nodes, never markup.

const FACTS = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** The element with this id, or null. */
const byId = (id) => document.getElementById(id);

/** An HTML element with attributes, event listeners (values that are functions) and children (elements or texts). */
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

/** Call the handler of the pressed key, if there is one. Shortcuts with Ctrl, Alt or Meta are left to the browser. */
function pressed(event, handlers) {
  if (!handlers[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  handlers[event.key]();
}

const clamped = (value, low, high) => Math.min(Math.max(value, low), high);

/** Base64 to bytes. */
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Base64 of little-endian float32 to numbers. Every browser runs on a little-endian machine. */
const floats = (text) => new Float32Array(bytes(text).buffer);

/** A number for people: about four digits, none of them a trailing zero. */
function figure(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return "-";
  const near = Number(value.toPrecision(digits));
  return value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6) ? near.toExponential() : near.toLocaleString("en", { maximumSignificantDigits: 15 });
}

/** A fraction as a percentage: 98.5 %. */
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

/** An integer with separators: 12,345. */
const whole = (value) => value.toLocaleString("en");

/** Shared options of charts with a point per epoch. */
const BY_EPOCH = { x: "epoch", whole: true, read: (x) => `epoch ${whole(x)}` };
const AS_PERCENT = { format: (share) => `${Number((100 * share).toPrecision(4))} %`, say: (share) => percent(share, 2) };

// Small pieces that all parts of a page use. Text goes in as text, never as markup.

const FACTS = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** The element with this id, or null. */
function byId(id) {
  return document.getElementById(id);
}

/** An HTML element with attributes and children; texts become text nodes. */
function element(name, attributes = {}, ...children) {
  return furnished(document.createElement(name), attributes, children);
}

/** The same for SVG. */
function drawn(name, attributes = {}, ...children) {
  return furnished(document.createElementNS(SVG, name), attributes, children);
}

function furnished(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Base64 to bytes. */
function bytes(text) {
  const binary = atob(text);
  const made = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place += 1) made[place] = binary.charCodeAt(place);
  return made;
}

/** Base64 of little-endian float32 to numbers. */
function floats(text) {
  const view = new DataView(bytes(text).buffer);
  return Float32Array.from({ length: view.byteLength / 4 }, (_, place) => view.getFloat32(4 * place, true));
}

/** The same of float64. */
function doubles(text) {
  const view = new DataView(bytes(text).buffer);
  return Float64Array.from({ length: view.byteLength / 8 }, (_, place) => view.getFloat64(8 * place, true));
}

/** A number for people: about four digits, none of them a trailing zero. */
function figure(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return "–";
  const near = Number(value.toPrecision(digits));
  return value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6) ? near.toExponential() : String(near);
}

/** A share as percent. */
function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)} %`;
}

/** 12,345. */
function whole(value) {
  return value.toLocaleString("en");
}

/** 28 * 28 bytes on a canvas of that size, as black ink; style.css turns it round where the page is dark. */
function showInk(canvas, pixels) {
  const paint = canvas.getContext("2d");
  const image = paint.createImageData(28, 28);
  for (let place = 0; place < 784; place += 1) image.data[4 * place + 3] = pixels[place];
  paint.putImageData(image, 0, 0);
}

// A field to draw on, with mouse, pen, finger or keys; the network answers while one draws.

const BRUSH = 22; // of 280 pixels: as wide as MNIST's strokes once the digit fills its box
const PEN_STEP = 10; // pixels of an arrow key
const FINE_STEP = 3; // with Shift
const MOST_BARS = 30; // classes that all have a bar
const LIKELIEST = 10; // bars for more classes than these
const LONGEST_NAME = 20; // letters of a class name beside its bar

class Pad {
  constructor(canvas, onInk) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d", { willReadFrequently: true });
    this.onInk = onInk;
    this.strokes = [];
    this.pen = { x: canvas.width / 2, y: canvas.height / 4 };
    this.stroke = null; // the open one: a pointer's, or else the keys' pen's
    this.pointer = null; // the id of the pointer that is down
    this.mark = byId("pen");
    this._listen();
  }

  /** (height * width) numbers from 0, paper, to 1, ink. */
  ink() {
    const { width, height } = this.canvas;
    const pixels = this.paint.getImageData(0, 0, width, height).data;
    return Float64Array.from({ length: width * height }, (_, place) => pixels[4 * place + 3] / 255);
  }

  get penDown() {
    return this.stroke !== null && this.pointer === null;
  }

  /** Take the last stroke away; an open one is that, and ends. */
  undo() {
    this._lift();
    this.strokes.pop();
    this._changed();
  }

  clear() {
    this.strokes = [];
    this._lift();
    this._changed();
  }

  _listen() {
    const up = (event) => {
      if (event.pointerId !== this.pointer) return;
      this.pointer = null;
      this._lift();
    };
    furnished(this.canvas, {
      pointerdown: (event) => {
        if (this.pointer !== null || event.button !== 0) return;
        this._lift();
        this.pointer = event.pointerId;
        this.canvas.setPointerCapture(this.pointer);
        this._begin(this._at(event));
      },
      pointermove: (event) => {
        if (event.pointerId !== this.pointer || this.stroke === null) return;
        const passed = event.getCoalescedEvents?.() ?? [];
        for (const place of passed.length ? passed : [event]) this.stroke.push(this._at(place));
        this._changed();
      },
      pointerup: up, pointercancel: up, keydown: (event) => this._key(event), focus: () => this._showPen(),
      blur: () => {
        if (this.penDown) this._lift();
        this.mark.hidden = true;
      },
    });
  }

  _at(event) {
    const box = this.canvas.getBoundingClientRect();
    const { clientWidth, clientHeight, clientLeft, clientTop } = this.canvas; // without the border
    const x = ((event.clientX - box.left - clientLeft) * this.canvas.width) / clientWidth;
    return { x, y: ((event.clientY - box.top - clientTop) * this.canvas.height) / clientHeight };
  }

  _key(event) {
    const step = event.shiftKey ? FINE_STEP : PEN_STEP;
    pressed(event, {
      ArrowLeft: () => this._walk(-step, 0),
      ArrowRight: () => this._walk(step, 0),
      ArrowUp: () => this._walk(0, -step),
      ArrowDown: () => this._walk(0, step),
      " ": () => this._press(),
      Backspace: () => this.undo(),
      Delete: () => this.clear(),
    });
    this._showPen();
  }

  _walk(dx, dy) {
    const { width, height } = this.canvas;
    this.pen = { x: clamped(this.pen.x + dx, 0, width), y: clamped(this.pen.y + dy, 0, height) };
    if (!this.penDown) return;
    this.stroke.push(this.pen);
    this._changed();
  }

  /** Put the pen down or lift it; not while a pointer draws. */
  _press() {
    if (this.pointer !== null) return;
    if (this.penDown) this._lift();
    else this._begin(this.pen);
  }

  _begin(place) {
    this.stroke = [place];
    this.strokes.push(this.stroke);
    this._changed();
  }

  /** End the open stroke. */
  _lift() {
    this.stroke = null;
    this.mark.classList.remove("down");
  }

  /** Where the keys' pen is; a pointer needs no mark. */
  _showPen() {
    this.mark.hidden = !this.canvas.matches(":focus-visible");
    this.mark.classList.toggle("down", this.penDown);
    this.mark.style.left = `${(this.pen.x * this.canvas.clientWidth) / this.canvas.width}px`;
    this.mark.style.top = `${(this.pen.y * this.canvas.clientHeight) / this.canvas.height}px`;
  }

  _changed() {
    const paint = this.paint;
    paint.clearRect(0, 0, this.canvas.width, this.canvas.height);
    Object.assign(paint, { lineWidth: BRUSH, lineCap: "round", lineJoin: "round", strokeStyle: "#000" });
    for (const stroke of this.strokes) {
      paint.beginPath();
      stroke.forEach(({ x, y }, place) => (place ? paint.lineTo(x, y) : paint.moveTo(x, y)));
      if (stroke.length === 1) paint.lineTo(stroke[0].x, stroke[0].y); // a dot
      paint.stroke();
    }
    this.onInk();
  }
}

/** What a network sees of the field's ink: a digit as MNIST has it, or else the whole field in the data's size. */
function prepared(pad, columns, rows) {
  const { width, height } = pad.canvas;
  return columns === SIDE && rows === SIDE ? centred(pad.ink(), width, height) : scaled(pad.ink(), width, height, columns, rows);
}

/** Where the network's input lies on the field: its left and top edge and the size of one of its pixels. */
function inputOnField(pad, columns, rows) {
  const { width, height } = pad.canvas;
  if (columns !== SIDE || rows !== SIDE) return { left: 0, top: 0, wide: width / columns, high: height / rows };
  const { box, left, top, ...small } = placed(pad.ink(), width, height);
  const [wide, high] = [(box.right - box.left) / small.columns, (box.bottom - box.top) / small.rows];
  return { left: box.left - left * wide, top: box.top - top * high, wide, high };
}

/** Paint what counts over the field: orange where more ink raises the largest logit, blue where it lowers it. */
function paintSaliency(pad, columns, rows, gradient) {
  const over = byId("saliency");
  const paint = over.getContext("2d");
  paint.clearRect(0, 0, over.width, over.height);
  if (!gradient) return;
  const most = gradient.reduce((found, value) => Math.max(found, Math.abs(value)), 0) || 1;
  const { left, top, wide, high } = inputOnField(pad, columns, rows);
  gradient.forEach((value, place) => {
    const [column, row] = [place % columns, Math.floor(place / columns)];
    const strength = Math.abs(value) / most;
    paint.fillStyle = `rgba(${value > 0 ? "217, 95, 26" : "43, 117, 196"}, ${(0.8 * strength).toFixed(3)})`;
    if (strength > 0.04) paint.fillRect(left + column * wide, top + row * high, wide + 0.5, high + 0.5);
  });
}

/** A line of the list of classes. */
function bar() {
  const [name, length, share] = [element("b"), element("u"), element("span", {}, "-")];
  const line = element("li", {}, name, element("i", { "aria-hidden": "true" }, length), share);
  byId("bars").append(line);
  return { line, name, length, share };
}

/** Field, bars and what the network sees, tied together. Of many classes the likeliest are shown, in their order. */
function drawing(predict, saliency, names) {
  const bars = names.slice(0, names.length > MOST_BARS ? LIKELIEST : names.length).map(bar);
  const longest = Math.max(...names.map((name) => name.length));
  if (longest > 1) byId("bars").style.setProperty("--name", `${1.3 * Math.min(longest, LONGEST_NAME)}ch`); // bold
  const seen = byId("seen");
  seen.className = INK;
  let due = false;
  const pad = new Pad(byId("pad"), () => {
    if (!due) requestAnimationFrame(answer); // as often as the screen shows it
    due = true;
  });

  function fill(shares) {
    const order = [...names.keys()];
    if (bars.length < names.length && shares) order.sort((one, other) => shares[other] - shares[one]);
    const best = shares ? shares.indexOf(Math.max(...shares)) : -1;
    bars.forEach(({ line, name, length, share }, place) => {
      const label = order[place];
      name.textContent = names[label];
      name.title = names[label];
      line.classList.toggle("best", label === best);
      length.style.width = shares ? `${100 * shares[label]}%` : "0";
      share.textContent = shares ? percent(shares[label]) : "-";
    });
    byId("answer").textContent = shares ? `${names[best]}, ${percent(shares[best])} sure` : "Draw something.";
  }

  function answer() {
    due = false;
    const drawn = prepared(pad, seen.width, seen.height);
    const empty = !drawn.some((pixel) => pixel);
    const pixels = LOOK.ink ? drawn : drawn.map((pixel) => 255 - pixel); // as dark on light as the data
    paint(seen, shown(pixels));
    fill(empty ? null : predict(pixels));
    const wanted = byId("what-counts").getAttribute("aria-pressed") === "true";
    const towardsInk = (gradient) => (LOOK.ink ? gradient : gradient.map((value) => -value));
    paintSaliency(pad, seen.width, seen.height, wanted && !empty ? towardsInk(saliency(pixels)) : null);
  }

  fill(null);
  byId("what-counts").addEventListener("click", ({ currentTarget: button }) => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    byId("saliency-note").hidden = !on;
    answer();
  });
  byId("undo").addEventListener("click", () => pad.undo());
  byId("clear").addEventListener("click", () => pad.clear());
  return pad;
}

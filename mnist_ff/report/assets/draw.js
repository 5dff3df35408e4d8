// A canvas to draw on, with mouse, pen, finger or keys. The network classifies the drawing as it changes.

const BRUSH = 22; // pixels, of a canvas of 280: as wide as MNIST's strokes once the digit is scaled to 20 pixels
const PEN_STEP = 10; // pixels per press of an arrow key
const FINE_STEP = 3; // the same with Shift
const MAX_BARS = 30; // with up to this many classes, each has a bar
const TOP_BARS = 10; // with more, the most probable ones
const MAX_NAME_LENGTH = 20; // letters of a class name beside its bar

class Pad {
  constructor(canvas, onInk) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d", { willReadFrequently: true });
    this.onInk = onInk;
    this.strokes = [];
    this.pen = { x: canvas.width / 2, y: canvas.height / 4 };
    this.stroke = null; // the stroke in progress, drawn by a pointer or by the keys
    this.pointer = null; // the id of the pointer that is down
    this.mark = byId("pen");
    this._listen();
  }

  /** The canvas as (height * width) numbers from 0 (paper) to 1 (ink). */
  ink() {
    const { width, height } = this.canvas;
    const pixels = this.paint.getImageData(0, 0, width, height).data;
    return Float64Array.from({ length: width * height }, (_, index) => pixels[4 * index + 3] / 255);
  }

  get penDown() {
    return this.stroke !== null && this.pointer === null;
  }

  /** Remove the last stroke; a stroke in progress ends. */
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
        for (const point of passed.length ? passed : [event]) this.stroke.push(this._at(point));
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

  _begin(point) {
    this.stroke = [point];
    this.strokes.push(this.stroke);
    this._changed();
  }

  /** End the stroke in progress. */
  _lift() {
    this.stroke = null;
    this.mark.classList.remove("down");
  }

  /** Show where the pen of the keyboard is. */
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
      stroke.forEach(({ x, y }, index) => (index ? paint.lineTo(x, y) : paint.moveTo(x, y)));
      if (stroke.length === 1) paint.lineTo(stroke[0].x, stroke[0].y); // a dot
      paint.stroke();
    }
    this.onInk();
  }
}

/** The network's input: for 28 x 28 data a digit prepared as MNIST's, else the whole canvas scaled to the data's size. */
function prepared(pad, columns, rows) {
  const { width, height } = pad.canvas;
  return columns === SIDE && rows === SIDE ? centred(pad.ink(), width, height) : scaled(pad.ink(), width, height, columns, rows);
}

/** Where the network's input lies on the canvas: its left and top edge, and the size of one of its pixels. */
function inputOnField(pad, columns, rows) {
  const { width, height } = pad.canvas;
  if (columns !== SIDE || rows !== SIDE) return { left: 0, top: 0, wide: width / columns, high: height / rows };
  const { box, left, top, ...small } = placed(pad.ink(), width, height);
  const [wide, high] = [(box.right - box.left) / small.columns, (box.bottom - box.top) / small.rows];
  return { left: box.left - left * wide, top: box.top - top * high, wide, high };
}

/** Paint the saliency over the canvas: orange where more ink raises the largest logit, blue where it lowers it. */
function paintSaliency(pad, columns, rows, gradient) {
  const over = byId("saliency");
  const paint = over.getContext("2d");
  paint.clearRect(0, 0, over.width, over.height);
  if (!gradient) return;
  const most = gradient.reduce((found, value) => Math.max(found, Math.abs(value)), 0) || 1;
  const { left, top, wide, high } = inputOnField(pad, columns, rows);
  gradient.forEach((value, index) => {
    const [column, row] = [index % columns, Math.floor(index / columns)];
    const strength = Math.abs(value) / most;
    paint.fillStyle = `rgba(${value > 0 ? "217, 95, 26" : "43, 117, 196"}, ${(0.8 * strength).toFixed(3)})`;
    if (strength > 0.04) paint.fillRect(left + column * wide, top + row * high, wide + 0.5, high + 0.5);
  });
}

/** Append a class's bar to the list. */
function bar() {
  const [name, length, share] = [element("b"), element("u"), element("span", {}, "-")];
  const line = element("li", {}, name, element("i", { "aria-hidden": "true" }, length), share);
  byId("bars").append(line);
  return { line, name, length, share };
}

/** Connect the canvas, the network's input and the bars. With many classes, the most probable are shown, sorted. */
function drawing(predict, saliency, names) {
  const bars = names.slice(0, names.length > MAX_BARS ? TOP_BARS : names.length).map(bar);
  const longest = Math.max(...names.map((name) => name.length));
  if (longest > 1) byId("bars").style.setProperty("--name", `${1.3 * Math.min(longest, MAX_NAME_LENGTH)}ch`); // bold
  const seen = byId("seen");
  seen.className = INK;
  let due = false;
  const pad = new Pad(byId("pad"), () => {
    if (!due) requestAnimationFrame(answer); // once per frame
    due = true;
  });

  function fill(shares) {
    const order = [...names.keys()];
    if (bars.length < names.length && shares) order.sort((one, other) => shares[other] - shares[one]);
    const best = shares ? shares.indexOf(Math.max(...shares)) : -1;
    bars.forEach(({ line, name, length, share }, index) => {
      const label = order[index];
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

// A field to draw on, with mouse, pen, finger or keys; the network answers while one draws.

const BRUSH = 22; // of 280 pixels: as wide as MNIST's strokes once the digit fills its box
const PEN_STEP = 10; // pixels of an arrow key
const FINE_STEP = 3; // with Shift

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

/** Field, bars and what the network sees, tied together. */
function drawing(predict) {
  const bars = Array.from({ length: 10 }, (_, digit) => {
    const [bar, share] = [element("u"), element("span", {}, "–")];
    const line = element("li", {}, element("b", {}, String(digit)), element("i", { "aria-hidden": "true" }, bar), share);
    byId("bars").append(line);
    return { line, bar, share };
  });
  let due = false;
  const pad = new Pad(byId("pad"), () => {
    if (!due) requestAnimationFrame(answer); // as often as the screen shows it
    due = true;
  });

  function answer() {
    due = false;
    const pixels = centred(pad.ink(), pad.canvas.width, pad.canvas.height);
    paint(byId("seen"), ink(pixels));
    const empty = !pixels.some((pixel) => pixel);
    const shares = empty ? null : predict(pixels);
    const best = empty ? -1 : shares.indexOf(Math.max(...shares));
    bars.forEach(({ line, bar, share }, digit) => {
      line.classList.toggle("best", digit === best);
      bar.style.width = empty ? "0" : `${100 * shares[digit]}%`;
      share.textContent = empty ? "–" : percent(shares[digit]);
    });
    byId("answer").textContent = empty ? "Draw something." : `${best}, ${percent(shares[best])} sure`;
  }

  byId("undo").addEventListener("click", () => pad.undo());
  byId("clear").addEventListener("click", () => pad.clear());
  return pad;
}

// Line charts in SVG: zoom by dragging, pinching, the wheel or keys; the value under the pointer; raw and smoothed.

const MARGIN = { top: 10, right: 12, bottom: 36 };
const NARROW = 560; // CSS pixels, below which lines are named above the chart instead of beside their ends
const SMALLEST_DRAG = 8; // CSS pixels
const STEP = 1.5; // a zoom by key or button
const MOST_NAMED = 8; // lines with a colour and a name of their own
const DIGITS = 9; // of a value under the pointer: as many as a run's files have
const MEAN_DIGITS = 6; // of one that is the mean of several
const BESIDE_NAME = 8; // CSS pixels on either side of a name beside a line's end

/**
 * A chart in `host`.
 *
 * spec: title (for screen readers), x and y (axis names), log (y by factors), height, lines, read(x) a text on the place
 * that is looked at, format(y), whole (x counts things), only (read one line, the nearest), domain [low, high] of y.
 * A line: name, look (its CSS classes), xs (rising numbers), ys (null is a gap), quiet (without a name at its end),
 * digits (of its values under the pointer, where they are computed here or are means).
 */
class Chart {
  constructor(host, spec) {
    this.spec = { height: 280, format: figure, read: (x) => `${figure(x)}`, ...spec };
    this.host = host;
    this.cursor = null;
    this.pointers = new Map();
    host.classList.add("chart");
    this.reading = element("span", { class: "reading", role: "status" });
    this.head = element("div", { class: "chart-head" });
    this.keys = element("span", { class: "keys" });
    this.plot = drawn("svg", { class: "plot", tabindex: 0, role: "application", "aria-label": `${spec.title}. Chart; arrow keys read it.` });
    this.head.append(element("strong", {}, spec.y), this.keys, this.reading, this._tools());
    host.append(this.head, this.plot);
    this.setLines(spec.lines);
    this._listen();
    new ResizeObserver(() => this.draw()).observe(host);
  }

  /** Other lines in the same frame. */
  setLines(lines) {
    this.lines = lines.filter((line) => line.xs.length);
    const firsts = this.lines.map((line) => line.xs[0]);
    const lasts = this.lines.map((line) => line.xs[line.xs.length - 1]);
    this.full = this.lines.length ? [Math.min(...firsts), Math.max(...lasts)] : [0, 1];
    if (this.full[0] === this.full[1]) this.full = [this.full[0] - 0.5, this.full[1] + 0.5];
    if (!this.range) this.range = [...this.full];
    this.draw();
  }

  /** Show x from low to high, within what there is. */
  zoomTo(low, high) {
    const [first, last] = this.full;
    const least = this.spec.whole ? Math.min(2, last - first) : (last - first) / 5000;
    const width = Math.min(Math.max(high - low, least), last - first);
    const middle = (low + high) / 2;
    const from = Math.min(Math.max(middle - width / 2, first), last - width);
    this.range = [from, from + width];
    this.draw();
  }

  /** Zoom around x: a factor above 1 shows less. */
  zoomBy(factor, x = (this.range[0] + this.range[1]) / 2) {
    const [low, high] = this.range;
    this.zoomTo(x - (x - low) / factor, x + (high - x) / factor);
  }

  /** Show everything. */
  reset() {
    this.range = [...this.full];
    this.draw();
  }

  draw() {
    const width = this.host.clientWidth;
    if (!width) return;
    const wide = width >= NARROW;
    const named = this.lines.filter((line) => !line.quiet);
    const beside = wide && named.length > 1 && named.length <= MOST_NAMED;
    this.ruler = drawn("text", { class: "name", visibility: "hidden" });
    this.plot.replaceChildren(this.ruler);
    const names = new Map(beside ? named.map((line) => [line, this._fitted(line.name, width / 3 - 2 * BESIDE_NAME)]) : []);
    this.width = width;
    this.right = beside ? 2 * BESIDE_NAME + Math.max(...[...names.values()].map((name) => this._long(name))) : MARGIN.right;
    this.height = this.spec.height;
    this.left = 0;
    this._scales();
    this.left = 14 + Math.max(...this._yTicks().map((y) => this._long(this.spec.format(y))));
    this._scales();
    this._keys(beside ? [] : named.slice(0, MOST_NAMED));
    this.plot.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.plot.setAttribute("height", this.height);
    this.marks = drawn("g");
    this.brush = drawn("rect", { class: "brush", visibility: "hidden" });
    this.plot.replaceChildren(this._clip(), ...this._axes(), ...this.lines.flatMap((line) => this._drawn(line)), this.brush, this.marks);
    if (beside) this.plot.append(...this._names(names));
    this._mark();
  }

  /** CSS pixels of a name, as the style sheet writes it. */
  _long(name) {
    this.ruler.textContent = name;
    return this.ruler.getComputedTextLength();
  }

  /** A name without as much of its beginning as does not fit: what differs, a job's number, is at its end. */
  _fitted(name, room) {
    let shown = name;
    for (let gone = 1; gone < name.length && this._long(shown) > room; gone += 1) shown = `…${name.slice(gone)}`;
    return shown;
  }

  _clip() {
    this.clipId = this.clipId || `clip-${Math.random().toString(36).slice(2)}`;
    const box = drawn("rect", { x: this.left, y: 0, width: Math.max(1, this._inner()), height: this.height - MARGIN.bottom + 2 });
    return drawn("clipPath", { id: this.clipId }, box);
  }

  _inner() {
    return this.width - this.left - this.right;
  }

  _scales() {
    const [low, high] = this.range;
    this.px = (x) => this.left + ((x - low) / (high - low)) * this._inner();
    this.xAt = (px) => low + ((px - this.left) / this._inner()) * (high - low);
    let [bottom, top] = this.spec.domain || this._seen();
    this.log = this.spec.log && bottom > 0;
    const ahead = this.log ? Math.log10 : (y) => y;
    [bottom, top] = [ahead(bottom), ahead(top)];
    const room = (top - bottom) * 0.05 || Math.abs(top) * 0.05 || 0.5;
    [bottom, top] = [bottom - room, top + room];
    const tall = this.height - MARGIN.top - MARGIN.bottom;
    this.py = (y) => MARGIN.top + ((top - ahead(y)) / (top - bottom)) * tall;
    this.ends = this.log ? [10 ** bottom, 10 ** top] : [bottom, top];
  }

  /** The lowest and highest y in sight. */
  _seen() {
    let low = Infinity;
    let high = -Infinity;
    for (const line of this.lines) {
      const [from, to] = this._within(line);
      for (let place = from; place < to; place += 1) {
        const y = line.ys[place];
        if (y === null || !Number.isFinite(y)) continue;
        if (y < low) low = y;
        if (y > high) high = y;
      }
    }
    return low <= high ? [low, high] : [0, 1];
  }

  /** The places of a line's points in sight, with one more on either side. */
  _within(line) {
    return [Math.max(0, after(line.xs, this.range[0]) - 1), Math.min(line.xs.length, after(line.xs, this.range[1]) + 1)];
  }

  _axes() {
    const made = [];
    for (const y of this._yTicks()) {
      const at = this.py(y);
      made.push(drawn("line", { class: "grid", x1: this.left, x2: this.width - this.right, y1: at, y2: at }));
      made.push(drawn("text", { x: this.left - 8, y: at + 4, "text-anchor": "end" }, this.spec.format(y)));
    }
    for (const x of ticks(...this.range, this._inner() / 90, this.spec.whole)) {
      made.push(drawn("text", { x: this.px(x), y: this.height - MARGIN.bottom + 18, "text-anchor": "middle" }, figure(x, 6)));
    }
    made.push(drawn("text", { x: this.left + this._inner() / 2, y: this.height - 3, "text-anchor": "middle" }, this.spec.x));
    return made;
  }

  _yTicks() {
    return this.log ? ticksByFactors(...this.ends) : ticks(...this.ends, this.height / 55);
  }

  /**
   * A line in sight, and a dot for each point that no line leads to; where points are denser than pixels, each pixel
   * column's lowest and highest.
   */
  _drawn(line) {
    const [from, to] = this._within(line);
    const dense = to - from > 2.5 * this._inner();
    const clip = { "clip-path": `url(#${this.clipId})` };
    const d = dense ? this._columns(line, from, to) : this._points(line, from, to);
    const alone = dense ? [] : this._alone(line, from, to);
    const dots = alone.map((place) =>
      drawn("circle", { class: `dot ${line.look}`, cx: this.px(line.xs[place]), cy: this.py(line.ys[place]), r: 3.5, ...clip }));
    return (line.drawn = [drawn("path", { class: `line ${line.look}`, d, ...clip }), ...dots]);
  }

  /** The places in sight of points without a neighbour. */
  _alone(line, from, to) {
    const there = (place) => Number.isFinite(line.ys[place]); // neither null nor beyond the ends
    const places = Array.from({ length: to - from }, (_, at) => from + at);
    return places.filter((place) => there(place) && !there(place - 1) && !there(place + 1));
  }

  _points(line, from, to) {
    let d = "";
    let pen = "M";
    for (let place = from; place < to; place += 1) {
      const y = line.ys[place];
      if (y === null || !Number.isFinite(y)) {
        pen = "M";
        continue;
      }
      d += `${pen}${this.px(line.xs[place]).toFixed(1)} ${this.py(y).toFixed(1)}`;
      pen = "L";
    }
    return d;
  }

  _columns(line, from, to) {
    let d = "";
    for (let place = from; place < to; ) {
      const column = Math.floor(this.px(line.xs[place]));
      let [low, high] = [Infinity, -Infinity];
      for (; place < to && Math.floor(this.px(line.xs[place])) === column; place += 1) {
        low = Math.min(low, line.ys[place]);
        high = Math.max(high, line.ys[place]);
      }
      d += `${d ? "L" : "M"}${column} ${this.py(high).toFixed(1)}L${column} ${this.py(low).toFixed(1)}`;
    }
    return d;
  }

  /** Names beside the lines' ends, moved apart where they would cover each other. */
  _names(names) {
    const found = [...names.keys()].map((line) => {
      const last = Math.min(this._within(line)[1], line.ys.length) - 1;
      const y = line.ys[last];
      return { line, y: y === null ? MARGIN.top : Math.min(Math.max(this.py(y), MARGIN.top), this.height - MARGIN.bottom) };
    });
    found.sort((a, b) => a.y - b.y);
    for (let place = 1; place < found.length; place += 1) found[place].y = Math.max(found[place].y, found[place - 1].y + 16);
    const over = found.length ? found[found.length - 1].y - (this.height - MARGIN.bottom) : 0;
    for (const one of found) if (over > 0) one.y -= over;
    return found.map(({ line, y }) =>
      drawn("text", { class: `name ${line.look.split(" ")[0]}`, x: this.width - this.right + BESIDE_NAME, y: y + 4 }, names.get(line)));
  }

  _keys(named) {
    const made = named.length < 2 ? [] : named;
    this.keys.replaceChildren(...made.map((line) => {
      const sample = drawn("svg", { "aria-hidden": "true" }, drawn("path", { class: `line ${line.look}`, d: "M0 5L26 5" }));
      return element("span", { class: "key" }, sample, line.name);
    }));
    this.keys.className = made.length ? "keys" : "keys none";
  }

  _tools() {
    const button = (text, label, act) => {
      const made = element("button", { type: "button", "aria-label": label, title: label }, text);
      made.addEventListener("click", act);
      return made;
    };
    this.tools = element("span", { class: "tools" });
    if (this.spec.smoothing) this.tools.append(this.spec.smoothing);
    this.tools.append(
      button("+", "zoom in", () => this.zoomBy(STEP, this.cursor ?? undefined)),
      button("−", "zoom out", () => this.zoomBy(1 / STEP)),
      button("all", "show all", () => this.reset()),
    );
    return this.tools;
  }

  /** Rule, dots and text at the place that is looked at. */
  _mark() {
    this.marks.replaceChildren();
    for (const part of this.lines.flatMap((line) => line.drawn ?? [])) part.classList.remove("lit");
    if (this.cursor === null || !this.lines.length) return;
    const looked = this._looked();
    if (!looked) return;
    const { x, read } = looked;
    this.marks.append(drawn("line", { class: "rule", x1: this.px(x), x2: this.px(x), y1: MARGIN.top, y2: this.height - MARGIN.bottom }));
    for (const { line, place } of read) {
      const dot = { class: `dot ${line.look.split(" ")[0]}`, cx: this.px(line.xs[place]), cy: this.py(line.ys[place]), r: 4 };
      this.marks.append(drawn("circle", dot));
      if (this.spec.only) for (const part of line.drawn) part.classList.add("lit");
    }
    const values = read.map(({ line, place }) => `${line.name} ${this.spec.format(line.ys[place], line.digits ?? DIGITS)}`);
    this.reading.textContent = `${this.spec.read(x)}: ${values.join(", ")}`;
  }

  /** The points nearest to the cursor: one of each line, or of the nearest line alone. */
  _looked() {
    let read = this.lines.map((line) => ({ line, place: nearest(line.xs, this.cursor) }));
    read = read.filter(({ line, place }) => line.ys[place] !== null && Number.isFinite(line.ys[place]));
    if (!read.length) return null;
    if (this.spec.only && this.level !== undefined) {
      const far = ({ line, place }) => Math.abs(this.py(line.ys[place]) - this.level);
      read = [read.reduce((best, one) => (far(one) < far(best) ? one : best))];
    }
    const first = read.reduce((best, one) => (Math.abs(one.line.xs[one.place] - this.cursor) < Math.abs(best.line.xs[best.place] - this.cursor) ? one : best));
    return { x: first.line.xs[first.place], read };
  }

  _listen() {
    const plot = this.plot;
    plot.addEventListener("pointerdown", (event) => this._down(event));
    plot.addEventListener("pointermove", (event) => this._move(event));
    for (const name of ["pointerup", "pointercancel"]) plot.addEventListener(name, (event) => this._up(event));
    plot.addEventListener("pointerleave", () => this._leave());
    plot.addEventListener("dblclick", () => this.reset());
    plot.addEventListener("keydown", (event) => this._key(event));
    plot.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
  }

  _at(event) {
    const box = this.plot.getBoundingClientRect();
    const px = Math.min(Math.max(event.clientX - box.left, this.left), this.width - this.right);
    return { px, x: this.xAt(px), y: event.clientY - box.top };
  }

  _down(event) {
    this.plot.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this._at(event));
    this.start = event.pointerType !== "touch" && event.button === 0 ? this._at(event) : null;
    if (this.pointers.size === 2) this.pinched = { range: [...this.range], places: [...this.pointers.values()].map((at) => at.x) };
  }

  _move(event) {
    const at = this._at(event);
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) return this._pinch();
    [this.cursor, this.level] = [at.x, at.y];
    this._mark();
    if (this.start && Math.abs(at.px - this.start.px) >= SMALLEST_DRAG) {
      const left = Math.min(at.px, this.start.px);
      const box = { x: left, y: MARGIN.top, width: Math.abs(at.px - this.start.px), height: this.height - MARGIN.top - MARGIN.bottom };
      for (const [key, value] of Object.entries({ ...box, visibility: "visible" })) this.brush.setAttribute(key, value);
    }
    return undefined;
  }

  /** Keep the two places of the chart under the two fingers. */
  _pinch() {
    const [a, b] = [...this.pointers.values()].map((at) => (at.px - this.left) / this._inner());
    const [xa, xb] = this.pinched.places;
    if (Math.abs(a - b) < 0.02) return;
    const width = (xb - xa) / (b - a);
    if (width > 0) this.zoomTo(xa - a * width, xa + (1 - a) * width);
  }

  _up(event) {
    const at = this._at(event);
    const start = this.start;
    this.pointers.delete(event.pointerId);
    this.start = null;
    this.brush.setAttribute("visibility", "hidden");
    if (start && Math.abs(at.px - start.px) >= SMALLEST_DRAG) this.zoomTo(Math.min(at.x, start.x), Math.max(at.x, start.x));
  }

  _leave() {
    if (this.start) return;
    [this.cursor, this.level] = [null, undefined];
    this.reading.textContent = "";
    this._mark();
  }

  /** A page is scrolled by the wheel, unless the chart was chosen or the fingers pinch a touchpad. */
  _wheel(event) {
    if (!event.ctrlKey && document.activeElement !== this.plot) return;
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), this._at(event).x);
  }

  _key(event) {
    const acts = {
      "+": () => this.zoomBy(STEP, this.cursor ?? undefined),
      "=": () => this.zoomBy(STEP, this.cursor ?? undefined),
      "-": () => this.zoomBy(1 / STEP, this.cursor ?? undefined),
      0: () => this.reset(),
      Escape: () => this.reset(),
      ArrowLeft: () => this._walk(-1),
      ArrowRight: () => this._walk(1),
      Home: () => this._go(this.range[0]),
      End: () => this._go(this.range[1]),
    };
    const act = acts[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  }

  /** The next point of the first line, or as many further as a fiftieth of the chart. */
  _walk(direction) {
    const line = this.lines[0];
    if (!line) return;
    const [from, to] = this._within(line);
    const step = Math.max(1, Math.round((to - from) / 100));
    const place = nearest(line.xs, this.cursor ?? this.range[0]) + (this.cursor === null ? 0 : direction * step);
    this._go(line.xs[Math.min(Math.max(place, 0), line.xs.length - 1)]);
  }

  _go(x) {
    this.cursor = x;
    const [low, high] = this.range;
    if (x < low || x > high) this.zoomTo(x - (high - low) / 2, x + (high - low) / 2);
    else this._mark();
  }
}

/** How many of the rising numbers lie below x. */
function after(xs, x) {
  let [low, high] = [0, xs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The place of the rising number that is nearest to x. */
function nearest(xs, x) {
  const place = Math.min(after(xs, x), xs.length - 1);
  return place > 0 && x - xs[place - 1] < xs[place] - x ? place - 1 : place;
}

/** Round numbers between low and high, about `count` of them. */
function ticks(low, high, count, wholeOnly = false) {
  const rough = (high - low) / Math.max(2, Math.min(count, 10));
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const step = wholeOnly ? Math.max(1, Math.round(nice)) : nice;
  const made = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number += 1) made.push(number * step);
  return made;
}

/** 1, 2 and 5 times the powers of ten between low and high; powers alone where there are many. */
function ticksByFactors(low, high) {
  const factors = high / low > 2000 ? [1] : [1, 2, 5];
  const made = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const factor of factors) made.push(factor * 10 ** power);
  }
  const within = made.filter((y) => y >= low && y <= high);
  return within.length > 1 ? within : ticks(low, high, 4);
}

/** The mean of the `width` numbers around each one; fewer at the ends. */
function smoothed(ys, width) {
  const sums = new Float64Array(ys.length + 1);
  ys.forEach((y, place) => (sums[place + 1] = sums[place] + y));
  const before = width >> 1;
  return Float64Array.from(ys, (_, place) => {
    const from = Math.max(0, place - before);
    const to = Math.min(ys.length, place - before + width);
    return (sums[to] - sums[from]) / (to - from);
  });
}

/** A place on a chart whose points are of `size` batches each, the last one of what is left of `x` batches. */
function upTo(x, size) {
  const here = x % size || size;
  return here > 1 ? `mean of ${whole(here)} batches up to batch ${whole(x)}` : `batch ${whole(x)}`;
}

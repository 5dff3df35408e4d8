// Line charts in SVG: zoom by dragging, pinching, the wheel or keys; values under the pointer; raw and smoothed lines.

const MARGIN = { top: 10, right: 12, bottom: 36 };
const NARROW = 560; // CSS pixels; narrower charts have no line names beside the lines' ends
const MIN_DRAG = 8; // CSS pixels; shorter drags do not zoom
const ZOOM_STEP = 1.5; // factor of a zoom by key or button
const MAX_NAMED = 8; // lines with a colour and a name of their own
const OVERFLOW = 5; // CSS pixels by which dots and lines may reach beyond the axes
const NAME_MARGIN = 8; // CSS pixels on either side of a name beside a line's end
const MAX_READOUT = 3; // rows of the readout; where all lines would take more, one is read at a time
const WHISKER = 3; // CSS pixels of a whisker's cap on either side

/**
 * A chart in `host`.
 *
 * spec: title (for screen readers), x and y (axis labels), log (logarithmic y), height, lines, read(x) the readout's text
 * for x, format(y) a tick label of y, say(y) a value in the readout, whole (x is an integer), only (read out the nearest
 * line only), ends (fixed limits of y), span (limits of x), tick(x) a tick label of x, best (x and text of a marked
 * point; below: text at the bottom), legendElsewhere (no legend of its own).
 * A line: name, look (its CSS classes), xs (ascending), ys (null is a gap), quiet (no name at its end), said (its name in
 * the readout, if different), unread (not in the readout), points (a dot at each point, no line between them), low and high
 * (ys of a band, or of a whisker at each of the points).
 */
class Chart {
  constructor(host, spec) {
    this.spec = { height: 280, format: figure, read: figure, say: spec.format ?? figure, tick: (x) => figure(x, 6), ...spec };
    this.host = host;
    this.cursor = null;
    this.hidden = new Set(); // names of lines
    this.pointers = new Map();
    this.clipId = `clip-${Math.random().toString(36).slice(2)}`;
    this.reading = element("span", { class: "reading", role: "status" });
    this.keys = element("span", { class: "keys" });
    this.plot = drawn("svg", {
      class: "plot", tabindex: 0, role: "application", "aria-label": `${spec.title}. Chart; arrow keys read it.`,
      pointerdown: (event) => this._down(event), pointermove: (event) => this._move(event),
      pointerup: (event) => this._up(event), pointercancel: (event) => this._up(event), pointerleave: () => this._leave(),
      dblclick: () => this.reset(), keydown: (event) => this._key(event), wheel: (event) => this._wheel(event),
    });
    host.classList.add("chart");
    host.append(element("div", { class: "chart-head" }, element("strong", {}, spec.y), this.keys, this._tools()), this.reading, this.plot);
    this.setLines(spec.lines);
    new ResizeObserver(() => this.draw()).observe(host);
  }

  /** Replace the lines; the zoom stays. */
  setLines(lines) {
    this.all = lines.filter((line) => line.xs.length);
    const [first, last] = [Math.min(...this.all.map((line) => line.xs[0])), Math.max(...this.all.map((line) => line.xs.at(-1)))];
    const [low, high] = this.spec.span ?? (this.all.length ? [first, last] : [0, 1]);
    this.full = low === high ? [low - 0.5, high + 0.5] : [low, high];
    this.range ??= this.full;
    const keyed = !this.spec.legendElsewhere && this.all.length > 1 && this.all.length <= MAX_NAMED;
    this.keys.replaceChildren(...(keyed ? this.all.map((line) => this._entry(line)) : []));
    this._choose();
  }

  /** Draw the lines that are not hidden. */
  _choose() {
    this.lines = this.all.filter((line) => !this.hidden.has(line.name));
    this.draw();
  }

  /** A line's entry in the legend: a button that hides it and shows it again. */
  _entry(line) {
    const sample = drawn("svg", { "aria-hidden": "true" }, drawn("path", { class: `line ${line.look}`, d: "M0 5L26 5" }));
    const toggle = ({ currentTarget: key }) => {
      if (!this.hidden.delete(line.name)) this.hidden.add(line.name);
      key.setAttribute("aria-pressed", String(!this.hidden.has(line.name)));
      this._choose();
    };
    const shown = String(!this.hidden.has(line.name));
    return element("button", { type: "button", class: "key", title: "show or hide", "aria-pressed": shown, click: toggle }, sample, line.name);
  }

  /** Show x from low to high, within the lines' range. */
  zoomTo(low, high) {
    const [first, last] = this.full;
    const width = clamped(high - low, this.spec.whole ? Math.min(2, last - first) : (last - first) / 5000, last - first);
    const from = clamped((low + high - width) / 2, first, last - width);
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
    this.range = this.full;
    this.draw();
  }

  draw() {
    this.width = this.host.clientWidth;
    if (!this.width) return;
    const named = this.lines.filter((line) => !line.quiet);
    const beside = this.width >= NARROW && named.length > 1 && named.length <= MAX_NAMED;
    this.ruler = drawn("text", { class: "name", visibility: "hidden" });
    this.plot.replaceChildren(this.ruler);
    const names = new Map(beside ? named.map((line) => [line, this._fitted(line.name, this.width / 3 - 2 * NAME_MARGIN)]) : []);
    this.right = this.width - (beside ? 2 * NAME_MARGIN + Math.max(...[...names.values()].map((name) => this._textWidth(name))) : MARGIN.right);
    this.bottom = this.spec.height - MARGIN.bottom;
    this._scale();
    const yTicks = this.log ? ticksByFactors(...this.ends) : ticks(...this.ends, this.spec.height / 55);
    this.left = 14 + Math.max(...yTicks.map((y) => this._textWidth(this.spec.format(y))));
    this._reserve();
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${this.spec.height}`);
    this.plot.setAttribute("height", this.spec.height);
    this.marks = drawn("g");
    this.brush = drawn("rect", { class: "brush", visibility: "hidden", y: MARGIN.top, height: this.bottom - MARGIN.top });
    const box = drawn("rect", { x: this.left - OVERFLOW, y: 0, width: Math.max(1, this.right - this.left + 2 * OVERFLOW), height: this.bottom + OVERFLOW });
    const clip = drawn("clipPath", { id: this.clipId }, box);
    this.plot.replaceChildren(clip, ...this._axes(yTicks), ...this._best(), ...this.lines.flatMap((line) => this._drawn(line)), this.brush, this.marks, ...this._names(names));
    this._mark();
  }

  /** The width of a name in CSS pixels, in the style sheet's font. */
  _textWidth(name) {
    this.ruler.textContent = name;
    return this.ruler.getComputedTextLength();
  }

  /** A name cut at its start to fit: the end, such as a job's number, is what differs between names. */
  _fitted(name, room) {
    let shown = name;
    for (let cut = 1; cut < name.length && this._textWidth(shown) > room; cut += 1) shown = `…${name.slice(cut)}`;
    return shown;
  }

  /** Set the scale of y from the values in sight. */
  _scale() {
    const all = this.lines.flatMap((line) => [line.ys, line.low ?? [], line.high ?? []].map((ys) => ys.slice(...this._within(line))));
    const seen = all.flatMap((ys) => Array.from(ys)).filter(Number.isFinite);
    const [least, most] = seen.length ? [seen.reduce((a, b) => Math.min(a, b)), seen.reduce((a, b) => Math.max(a, b))] : [0, 1];
    const [low, high] = this.spec.ends ?? [least, most];
    this.log = this.spec.log && low > 0;
    const ahead = this.log ? Math.log10 : (y) => y;
    const room = (ahead(high) - ahead(low)) * 0.05 || Math.abs(ahead(high)) * 0.05 || 0.5;
    const lowest = low >= 0 && !this.log ? 0 : -Infinity; // no axis below zero for what is never negative
    const [bottom, top] = [Math.max(ahead(low) - room, lowest), ahead(high) + room];
    this.py = (y) => MARGIN.top + ((top - ahead(y)) / (top - bottom)) * (this.bottom - MARGIN.top);
    this.ends = this.log ? [10 ** bottom, 10 ** top] : [bottom, top];
  }

  px(x) {
    return this.left + ((x - this.range[0]) / (this.range[1] - this.range[0])) * (this.right - this.left);
  }

  /** The range of indices of a line's points in sight, with one more on either side. */
  _within(line) {
    return [Math.max(0, countBelow(line.xs, this.range[0]) - 1), Math.min(line.xs.length, countBelow(line.xs, this.range[1]) + 1)];
  }

  _axes(yTicks) {
    const middle = (x, y, text) => drawn("text", { x, y, "text-anchor": "middle" }, text);
    const longest = Math.max(...this.range.map((x) => this._textWidth(this.spec.tick(Math.round(x * 100) / 100))));
    const xTicks = ticks(...this.range, (this.right - this.left) / (longest + 45), this.spec.whole);
    return [
      ...yTicks.flatMap((y) => [
        drawn("line", { class: "grid", x1: this.left, x2: this.right, y1: this.py(y), y2: this.py(y) }),
        drawn("text", { x: this.left - 8, y: this.py(y) + 4, "text-anchor": "end" }, this.spec.format(y)),
      ]),
      ...xTicks.map((x) => middle(this.px(x), this.bottom + 18, this.spec.tick(x))),
      middle(this._inside((this.left + this.right) / 2, this.spec.x), this.spec.height - 3, this.spec.x),
    ];
  }

  /** The centre of a text, moved so that the text lies within the chart. */
  _inside(middle, text) {
    const half = this._textWidth(text) / 2;
    return Math.max(half, Math.min(middle, this.width - half));
  }

  /** A line's path: the highest and lowest point of each pixel column, and a dot for each point without neighbours. */
  _drawn(line) {
    const [from, to] = this._within(line);
    const clip = { "clip-path": `url(#${this.clipId})` };
    const there = (index) => Number.isFinite(line.ys[index]); // neither null nor beyond the ends
    const dots = [];
    let d = "";
    for (let index = from; index < to; index += 1) {
      if (!there(index)) continue;
      const x = this.px(line.xs[index]);
      const pen = d && there(index - 1) ? "L" : "M";
      if (line.points || (!there(index - 1) && !there(index + 1))) dots.push(drawn("circle", { class: `dot ${line.look}`, cx: x, cy: this.py(line.ys[index]), r: 3.5, ...clip }));
      let [low, high] = [line.ys[index], line.ys[index]];
      for (; index + 1 < to && there(index + 1) && Math.floor(this.px(line.xs[index + 1])) === Math.floor(x); index += 1) {
        low = Math.min(low, line.ys[index + 1]);
        high = Math.max(high, line.ys[index + 1]);
      }
      d += `${pen}${x.toFixed(1)} ${this.py(high).toFixed(1)}`;
      if (low < high) d += `L${x.toFixed(1)} ${this.py(low).toFixed(1)}`;
    }
    const path = line.points ? [] : [drawn("path", { class: `line ${line.look}`, d, ...clip })];
    return (line.drawn = [...this._band(line, from, to, clip), ...path, ...dots]);
  }

  /** The band of a line that has one: an area for each stretch without gaps, a whisker for a point that stands alone. */
  _band(line, from, to, clip) {
    if (!line.low) return [];
    const point = (ys) => (index) => `${this.px(line.xs[index]).toFixed(1)} ${this.py(ys[index]).toFixed(1)}`;
    const found = stretches(from, to, (index) => Number.isFinite(line.low[index]) && Number.isFinite(line.high[index]));
    const colour = line.look.split(" ")[0];
    const areas = line.points ? [] : found.filter((indices) => indices.length > 1);
    const d = areas.map((indices) => `M${[...indices.map(point(line.high)), ...[...indices].reverse().map(point(line.low))].join("L")}Z`).join("");
    const alone = found.filter((indices) => !areas.includes(indices)).flat();
    const cap = (ys, index) => `M${this.px(line.xs[index]) - WHISKER} ${this.py(ys[index]).toFixed(1)}h${2 * WHISKER}`;
    const whiskers = alone.map((index) => `M${point(line.low)(index)}L${point(line.high)(index)}${cap(line.low, index)}${cap(line.high, index)}`).join("");
    return [...(d ? [drawn("path", { class: `band ${colour}`, d, ...clip })] : []), ...(whiskers ? [drawn("path", { class: `line whisker ${colour}`, d: whiskers, ...clip })] : [])];
  }

  /** Names beside the lines' ends, moved apart where they would overlap. */
  _names(names) {
    const found = [...names.keys()].map((line) => {
      const y = line.ys[Math.min(this._within(line)[1], line.ys.length) - 1];
      return { line, y: y === null ? MARGIN.top : clamped(this.py(y), MARGIN.top, this.bottom) };
    });
    found.sort((a, b) => a.y - b.y);
    for (let index = 1; index < found.length; index += 1) found[index].y = Math.max(found[index].y, found[index - 1].y + 16);
    const over = Math.max(0, (found.at(-1)?.y ?? 0) - this.bottom);
    return found.map(({ line, y }) =>
      drawn("text", { class: `name ${line.look.split(" ")[0]}`, x: this.right + NAME_MARGIN, y: y + 4 - over }, names.get(line)));
  }

  /** Reserve the height of the longest readout, so that the chart does not move under the pointer. */
  _reserve() {
    const said = this.all.filter((line) => !line.unread).map((line) => `${line.said ?? line.name} 00.0000 %${line.low ? " (00.0000 % to 00.0000 %)" : ""}`);
    const longestOf = (words) => words.reduce((long, one) => (one.length > long.length ? one : long), "");
    const [xs] = this.all.length ? this.all.map((line) => line.xs) : [[]];
    const position = longestOf([...this.full, xs.at(-1), xs[xs.length >> 1]].map((x) => this.spec.read(x ?? 0)));
    const now = this.reading.textContent;
    const high = (text) => ((this.reading.textContent = text), this.reading.offsetHeight);
    this.reading.style.height = "auto";
    const all = high(`${position}: ${said.join(", ")}`);
    this.only = this.spec.only || all > MAX_READOUT * high("0");
    this.reading.style.height = `${this.only ? high(`${position}: ${longestOf(said)}`) : all}px`;
    this.reading.textContent = now;
  }

  /** A vertical line at the best point, with its text: at the top for falling lines, at the bottom for rising ones. */
  _best() {
    const { best } = this.spec;
    if (!best || best.x < this.range[0] || best.x > this.range[1]) return [];
    const x = this.px(best.x);
    const late = x > (this.left + this.right) / 2;
    const text = { class: "best-name", x: x + (late ? -6 : 6), y: best.below ? this.bottom - 6 : MARGIN.top + 10, "text-anchor": late ? "end" : "start" };
    return [drawn("line", { class: "best", x1: x, x2: x, y1: MARGIN.top, y2: this.bottom }), drawn("text", text, best.text)];
  }

  _tools() {
    const button = (text, label, click) => element("button", { type: "button", "aria-label": label, title: label, click }, text);
    const zoom = [
      button("+", "zoom in", () => this.zoomBy(ZOOM_STEP, this.cursor ?? undefined)),
      button("−", "zoom out", () => this.zoomBy(1 / ZOOM_STEP)),
      button("all", "show all", () => this.reset()),
    ];
    return element("span", { class: "tools" }, this.spec.smoothing ?? "", element("span", { class: "zoom" }, ...zoom));
  }

  /** The cursor's line, dots and readout: the nearest point of each line, or of the nearest line alone. */
  _mark() {
    this.marks.replaceChildren();
    for (const part of this.lines.flatMap((line) => line.drawn ?? [])) part.classList.remove("lit");
    if (this.cursor === null) return;
    let read = this._here();
    if (!read.length) return;
    if (this.only) read = [this._followed(read)];
    const { x } = closest(read, (one) => Math.abs(one.x - this.cursor));
    this.marks.append(drawn("line", { class: "rule", x1: this.px(x), x2: this.px(x), y1: MARGIN.top, y2: this.bottom }));
    for (const one of read) {
      this.marks.append(drawn("circle", { class: `dot ${one.line.look.split(" ")[0]}`, cx: this.px(one.x), cy: this.py(one.y), r: 4 }));
      if (this.only) for (const part of one.line.drawn) part.classList.add("lit");
    }
    const values = read.map(({ line, index, y }) => `${line.said ?? line.name} ${this.spec.say(y)}${this._spread(line, index)}`);
    this.reading.textContent = `${this.spec.read(x)}: ${values.join(", ")}`;
  }

  /** The point of each line that is nearest to the cursor. */
  _here() {
    const found = this.lines.filter((line) => !line.unread).map((line) => ({ line, index: nearest(line.xs, this.cursor) }));
    return found.map(({ line, index }) => ({ line, index, x: line.xs[index], y: line.ys[index] })).filter(({ y }) => Number.isFinite(y));
  }

  /** Of these points the nearest to the pointer; without one that of the line that keys chose, else the last drawn. */
  _followed(read) {
    if (this.level !== undefined) return closest(read, ({ y }) => Math.abs(this.py(y) - this.level));
    return read.find(({ line }) => line.name === this.follows) ?? read.at(-1);
  }

  /** Read the next line above, or below. */
  _climb(direction) {
    if (this.cursor === null) this._walk(0);
    const read = this._here().sort((a, b) => a.y - b.y);
    const index = read.findIndex(({ line }) => line.name === this._followed(this._here()).line.name);
    this.follows = read[clamped(index + direction, 0, read.length - 1)]?.line.name;
    this.level = undefined;
    this._mark();
  }

  /** The limits of a line's band at a point, in brackets. */
  _spread(line, index) {
    const ends = [line.low, line.high].map((ys) => ys?.[index] ?? NaN);
    return ends.every(Number.isFinite) ? ` (${ends.map((y) => this.spec.say(y)).join(" to ")})` : "";
  }

  /** A pointer's position: pixel column, fraction of the width, x, and pixel row. */
  _at(event) {
    const box = this.plot.getBoundingClientRect();
    const px = clamped(event.clientX - box.left, this.left, this.right);
    const share = (px - this.left) / (this.right - this.left);
    return { px, share, x: this.range[0] + share * (this.range[1] - this.range[0]), y: event.clientY - box.top };
  }

  _down(event) {
    this.plot.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this._at(event));
    this.start = event.pointerType !== "touch" && event.button === 0 ? this._at(event) : null;
    if (this.pointers.size === 2) this.pinched = [...this.pointers.values()].map((at) => at.x);
  }

  _move(event) {
    const at = this._at(event);
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) {
      this._pinch();
      return;
    }
    [this.cursor, this.level] = [at.x, at.y];
    this._mark();
    if (!this._drags(at)) return;
    const box = { x: Math.min(at.px, this.start.px), width: Math.abs(at.px - this.start.px), visibility: "visible" };
    for (const [key, value] of Object.entries(box)) this.brush.setAttribute(key, value);
  }

  _drags(at) {
    return this.start && Math.abs(at.px - this.start.px) >= MIN_DRAG;
  }

  /** Zoom so that each finger stays at the x where it began. */
  _pinch() {
    const [a, b] = [...this.pointers.values()].map((at) => at.share);
    const [xa, xb] = this.pinched;
    const width = (xb - xa) / (b - a);
    if (Math.abs(a - b) >= 0.02 && width > 0) this.zoomTo(xa - a * width, xa + (1 - a) * width);
  }

  _up(event) {
    const [at, start] = [this._at(event), this.start];
    const dragged = this._drags(at);
    this.pointers.delete(event.pointerId);
    this.start = null;
    this.brush.setAttribute("visibility", "hidden");
    if (dragged) this.zoomTo(Math.min(at.x, start.x), Math.max(at.x, start.x));
  }

  _leave() {
    if (this.start) return;
    [this.cursor, this.level] = [null, undefined];
    this.reading.textContent = "";
    this._mark();
  }

  /** The wheel zooms if the chart has the focus, and so does a pinch on a touchpad; otherwise it scrolls the page. */
  _wheel(event) {
    if (!event.ctrlKey && document.activeElement !== this.plot) return;
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), this._at(event).x);
  }

  _key(event) {
    const closer = () => this.zoomBy(ZOOM_STEP, this.cursor ?? undefined);
    const all = () => this.reset();
    pressed(event, {
      "+": closer, "=": closer, "-": () => this.zoomBy(1 / ZOOM_STEP), 0: all, Escape: all,
      ArrowLeft: () => this._walk(-1), ArrowRight: () => this._walk(1),
      Home: () => this._go(this.range[0]), End: () => this._go(this.range[1]),
      ...(this.only ? { ArrowUp: () => this._climb(1), ArrowDown: () => this._climb(-1) } : {}),
    });
  }

  /** The next point of the line that is read, of several the first, or as many further as a hundredth of what is in sight. */
  _walk(direction) {
    const line = this.lines.find(({ name }) => this.only && name === this.follows) ?? this.lines[0];
    if (!line) return;
    const [from, to] = this._within(line);
    const step = this.cursor === null ? 0 : direction * Math.max(1, Math.round((to - from) / 100));
    this._go(line.xs[clamped(nearest(line.xs, this.cursor ?? this.range[0]) + step, 0, line.xs.length - 1)]);
  }

  _go(x) {
    [this.cursor, this.level] = [x, undefined];
    const [low, high] = this.range;
    if (x < low || x > high) this.zoomTo(x - (high - low) / 2, x + (high - low) / 2);
    else this._mark();
  }
}

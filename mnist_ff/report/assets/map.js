// The map of the test images: the last hidden layer's activity on two principal components. A click shows the image.

const CLICK_RADIUS = 14; // CSS pixels around a click in which a point is found
const MARGIN_PX = 12; // CSS pixels around the points
const MAX_LEGEND = 30; // no legend with more classes

/** The colour of a class: all are equally bright, and neighbouring classes differ in hue. */
const classColour = (label, count) => `hsl(${Math.round((360 * ((label * 7) % count)) / count)} 75% ${matchMedia("(prefers-color-scheme: dark)").matches ? 66 : 42}%)`;

class ImageMap {
  /** data: points, rows, labels, predicted, and images that are not among `kept`, the images of the page's mistakes. */
  constructor(data, kept, names) {
    Object.assign(this, { canvas: byId("map"), names, hidden: new Set(), chosen: null });
    this.points = new Int16Array(bytes(data.points).buffer);
    this.rows = new Int32Array(bytes(data.rows).buffer);
    [this.labels, this.predicted] = [data.labels, data.predicted].map((text) => new Uint16Array(bytes(text).buffer));
    this.pixels = new Map(); // by row
    if (kept) {
      const images = bytes(kept.pixels);
      kept.rows.forEach((row, index) => this.pixels.set(row, { images, index }));
    }
    this._legend();
    this._listen();
    if (data.sheet) this._unpack(data).then(() => this.draw());
    this.draw();
  }

  /** Decode the images of the sheet, one picture with many images. */
  async _unpack({ sheet, across, image_rows: rows }) {
    const picture = new Image();
    picture.src = `data:image/png;base64,${sheet}`;
    await picture.decode();
    const canvas = element("canvas", { width: picture.width, height: picture.height });
    const paint = canvas.getContext("2d", { willReadFrequently: true });
    paint.drawImage(picture, 0, 0);
    const [high, wide] = [LOOK.channels * LOOK.height, LOOK.width];
    rows.forEach((row, number) => {
      const tile = paint.getImageData((number % across) * wide, Math.floor(number / across) * high, wide, high).data;
      this.pixels.set(row, { images: Uint8Array.from({ length: high * wide }, (_, index) => tile[4 * index]), index: 0 });
    });
  }

  _legend() {
    if (this.names.length > MAX_LEGEND) return;
    const entry = (name, label) => {
      const toggle = () => {
        if (!this.hidden.delete(label)) this.hidden.add(label);
        button.setAttribute("aria-pressed", String(!this.hidden.has(label)));
        this.draw();
      };
      const button = element("button", { type: "button", class: "key", title: "show or hide", "aria-pressed": "true", click: toggle }, element("i", { class: "swatch" }), name);
      return button;
    };
    byId("map-keys").append(...this.names.map(entry));
  }

  _listen() {
    furnished(this.canvas, {
      pointerdown: (event) => {
        const box = this.canvas.getBoundingClientRect();
        const near = this._nearest(event.clientX - box.left, event.clientY - box.top);
        if (near !== null) this.choose(near);
      },
      keydown: (event) => pressed(event, {
        ArrowLeft: () => this._step(-1, 0), ArrowRight: () => this._step(1, 0),
        ArrowUp: () => this._step(0, -1), ArrowDown: () => this._step(0, 1),
      }),
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** The position of a point on the canvas, in CSS pixels. */
  at(index) {
    const side = this.canvas.clientWidth;
    const on = (value) => side / 2 + (value / 32767) * (side / 2 - MARGIN_PX);
    return [on(this.points[2 * index]), on(-this.points[2 * index + 1])];
  }

  /** The indices of points that have an image and are not hidden by the legend. */
  _shown() {
    return [...this.rows.keys()].filter((index) => this.pixels.has(this.rows[index]) && !this.hidden.has(this.labels[index]));
  }

  _nearest(x, y) {
    const away = (index) => Math.hypot(this.at(index)[0] - x, this.at(index)[1] - y);
    const found = this._shown().filter((index) => away(index) <= CLICK_RADIUS);
    return found.length ? closest(found, away) : null;
  }

  /** Choose the next point in a direction: near, and not far to the side. */
  _step(dx, dy) {
    const shown = this._shown();
    if (!shown.length) return;
    if (this.chosen === null) {
      const middle = this.canvas.clientWidth / 2;
      this.choose(closest(shown, (index) => Math.hypot(this.at(index)[0] - middle, this.at(index)[1] - middle)));
      return;
    }
    const [x, y] = this.at(this.chosen);
    const cost = (index) => {
      const [ahead, aside] = [(this.at(index)[0] - x) * dx + (this.at(index)[1] - y) * dy, (this.at(index)[0] - x) * dy + (this.at(index)[1] - y) * dx];
      return ahead > 0.5 ? ahead + 3 * Math.abs(aside) : Infinity;
    };
    const next = closest(shown, cost);
    if (cost(next) < Infinity) this.choose(next);
  }

  /** Show a point's image beside the map. */
  choose(index) {
    this.chosen = index;
    const [row, label, predicted] = [this.rows[index], this.names[this.labels[index]], this.names[this.predicted[index]]];
    const { images, index: number } = this.pixels.get(row);
    const right = this.labels[index] === this.predicted[index];
    const words = right ? `label ${label}, predicted correctly` : `label ${label}, predicted ${predicted}`;
    const canvas = imageCanvas({ class: INK, "aria-label": `test image ${row}: ${words}` }, shown(images, number));
    byId("map-image").replaceChildren(canvas, element("figcaption", {}, element("strong", {}, words), element("br"), `no. ${row}`));
    this.draw();
  }

  draw() {
    const side = this.canvas.parentElement.clientWidth && this.canvas.clientWidth;
    if (!side) return;
    const scale = window.devicePixelRatio || 1;
    Object.assign(this.canvas, { width: side * scale, height: side * scale });
    const paint = this.canvas.getContext("2d");
    paint.scale(scale, scale);
    const colours = this.names.map((_, label) => classColour(label, this.names.length));
    [...byId("map-keys").querySelectorAll(".swatch")].forEach((swatch, label) => (swatch.style.background = colours[label]));
    for (let index = 0; index < this.rows.length; index += 1) {
      if (!this.hidden.has(this.labels[index])) this._dot(paint, index, colours[this.labels[index]]);
    }
    if (this.chosen !== null) this._ring(paint, this.chosen);
  }

  /** Draw a point. One with an image is larger; a mistake has the prediction's colour inside. */
  _dot(paint, index, colour) {
    const [x, y] = this.at(index);
    const large = this.pixels.has(this.rows[index]);
    const wrong = this.labels[index] !== this.predicted[index];
    paint.globalAlpha = large ? 0.9 : 0.4;
    paint.fillStyle = colour;
    paint.beginPath();
    paint.arc(x, y, wrong ? 4 : large ? 2.6 : 1.6, 0, 7);
    paint.fill();
    if (!wrong) return;
    paint.fillStyle = classColour(this.predicted[index], this.names.length);
    paint.beginPath();
    paint.arc(x, y, 2, 0, 7);
    paint.fill();
  }

  _ring(paint, index) {
    const [x, y] = this.at(index);
    Object.assign(paint, { globalAlpha: 1, lineWidth: 2.5, strokeStyle: getComputedStyle(this.canvas).color });
    paint.beginPath();
    paint.arc(x, y, 8, 0, 7);
    paint.stroke();
  }
}

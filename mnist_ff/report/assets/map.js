// The map of the test images: where the network's last hidden layer puts each one; a click shows it.

const REACH = 14; // CSS pixels from a point that a click still means
const EDGE = 12; // CSS pixels around the points
const MOST_COLOURS = 30; // classes that each have an entry in the legend

/** A colour for each class, of one brightness, far from its neighbours'. */
const classColour = (label, count) => `hsl(${Math.round((360 * ((label * 7) % count)) / count)} 75% ${matchMedia("(prefers-color-scheme: dark)").matches ? 66 : 42}%)`;

class ImageMap {
  /** data: points, rows, labels, predicted, and the images that the page does not have; kept: those that it has. */
  constructor(data, kept, names) {
    Object.assign(this, { canvas: byId("map"), names, hidden: new Set(), chosen: null });
    this.points = new Int16Array(bytes(data.points).buffer);
    this.rows = new Int32Array(bytes(data.rows).buffer);
    [this.labels, this.predicted] = [data.labels, data.predicted].map((text) => new Uint16Array(bytes(text).buffer));
    this.pixels = new Map(); // by row
    if (kept) {
      const images = bytes(kept.pixels);
      kept.rows.forEach((row, place) => this.pixels.set(row, { images, place }));
    }
    this._legend();
    this._listen();
    if (data.sheet) this._unpack(data).then(() => this.draw());
    this.draw();
  }

  /** The pictures of the sheet, one after another. */
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
      this.pixels.set(row, { images: Uint8Array.from({ length: high * wide }, (_, place) => tile[4 * place]), place: 0 });
    });
  }

  _legend() {
    if (this.names.length > MOST_COLOURS) return;
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

  /** Where a point is on the canvas, in CSS pixels. */
  at(place) {
    const side = this.canvas.clientWidth;
    const on = (value) => side / 2 + (value / 32767) * (side / 2 - EDGE);
    return [on(this.points[2 * place]), on(-this.points[2 * place + 1])];
  }

  /** The points in sight that have an image. */
  _shown() {
    return [...this.rows.keys()].filter((place) => this.pixels.has(this.rows[place]) && !this.hidden.has(this.labels[place]));
  }

  _nearest(x, y) {
    const away = (place) => Math.hypot(this.at(place)[0] - x, this.at(place)[1] - y);
    const found = this._shown().filter((place) => away(place) <= REACH);
    return found.length ? closest(found, away) : null;
  }

  /** The next point in a direction: near, and not far to the side. */
  _step(dx, dy) {
    const shown = this._shown();
    if (!shown.length) return;
    if (this.chosen === null) {
      const middle = this.canvas.clientWidth / 2;
      this.choose(closest(shown, (place) => Math.hypot(this.at(place)[0] - middle, this.at(place)[1] - middle)));
      return;
    }
    const [x, y] = this.at(this.chosen);
    const cost = (place) => {
      const [ahead, aside] = [(this.at(place)[0] - x) * dx + (this.at(place)[1] - y) * dy, (this.at(place)[0] - x) * dy + (this.at(place)[1] - y) * dx];
      return ahead > 0.5 ? ahead + 3 * Math.abs(aside) : Infinity;
    };
    const next = closest(shown, cost);
    if (cost(next) < Infinity) this.choose(next);
  }

  /** Show a point's image beside the map. */
  choose(place) {
    this.chosen = place;
    const [row, label, predicted] = [this.rows[place], this.names[this.labels[place]], this.names[this.predicted[place]]];
    const { images, place: number } = this.pixels.get(row);
    const right = this.labels[place] === this.predicted[place];
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
    for (let place = 0; place < this.rows.length; place += 1) {
      if (!this.hidden.has(this.labels[place])) this._dot(paint, place, colours[this.labels[place]]);
    }
    if (this.chosen !== null) this._ring(paint, this.chosen);
  }

  /** A point with an image is larger; a mistake has the prediction's colour inside. */
  _dot(paint, place, colour) {
    const [x, y] = this.at(place);
    const large = this.pixels.has(this.rows[place]);
    const wrong = this.labels[place] !== this.predicted[place];
    paint.globalAlpha = large ? 0.9 : 0.4;
    paint.fillStyle = colour;
    paint.beginPath();
    paint.arc(x, y, wrong ? 4 : large ? 2.6 : 1.6, 0, 7);
    paint.fill();
    if (!wrong) return;
    paint.fillStyle = classColour(this.predicted[place], this.names.length);
    paint.beginPath();
    paint.arc(x, y, 2, 0, 7);
    paint.fill();
  }

  _ring(paint, place) {
    const [x, y] = this.at(place);
    Object.assign(paint, { globalAlpha: 1, lineWidth: 2.5, strokeStyle: getComputedStyle(this.canvas).color });
    paint.beginPath();
    paint.arc(x, y, 8, 0, 7);
    paint.stroke();
  }
}

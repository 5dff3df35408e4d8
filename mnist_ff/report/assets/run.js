// A run's report: its curves, its mistakes, its weights, its network.

function lossCharts(batches) {
  const [loss, lr] = [floats(batches.loss), doubles(batches.lr)];
  const xs = Float64Array.from(loss, (_, place) => Math.min((place + 1) * batches.per_point, batches.count));
  const many = batches.per_point > 1;
  const digits = many ? MEAN_DIGITS : DIGITS;
  const place = (x) => {
    const epoch = Math.floor((x - 1) / batches.per_epoch);
    return `${upTo(x, batches.per_point)} (epoch ${epoch + 1}, its ${whole(x - epoch * batches.per_epoch)}.)`;
  };
  const widths = [1];
  while (widths.at(-1) * 2 <= loss.length / 4) widths.push(widths.at(-1) * 2);
  const wanted = widths.findLastIndex((width) => width <= Math.max(1, loss.length / 50));
  const slider = element("input", { type: "range", min: 0, max: widths.length - 1, step: 1, value: wanted });
  const said = element("span");
  const lines = () => {
    const width = widths[slider.value];
    said.textContent = `smooth over ${whole(width * batches.per_point)}`;
    const raw = { name: many ? "mean" : "batch", look: width > 1 ? "raw thin" : "s0 thin", xs, ys: loss, quiet: true, digits };
    return width > 1 ? [raw, { name: "smoothed", look: "s0", xs, ys: smoothed(loss, width), quiet: true, digits: MEAN_DIGITS }] : [raw];
  };
  const smoothing = element("label", {}, said, slider);
  const chart = new Chart(byId("loss-chart"), { title: "Loss per batch", x: "batch", y: "cross-entropy (nats)", log: true, height: 300, lines: lines(), read: place, smoothing, whole: true });
  slider.addEventListener("input", () => chart.setLines(lines()));
  new Chart(byId("lr-chart"), { title: "Learning rate", x: "batch", y: "", height: 150, lines: [{ name: "learning rate", look: "s0", xs, ys: lr, digits }], read: place, whole: true });
}

function epochCharts({ part, columns }) {
  const xs = columns.epoch.map((epoch) => epoch + 1);
  const lines = (what) => [
    { name: "train, while learning", look: "s0", xs, ys: columns[`train_${what}`] },
    { name: "train, as tested", look: "s0 dashed", xs, ys: columns[`train_eval_${what}`] },
    { name: part || "test", look: "s1", xs, ys: columns[`${part}_${what}`] },
  ].filter((line) => line.ys);
  const shared = { x: "epoch", whole: true, read: (x) => `epoch ${whole(x)}`, height: 260 };
  new Chart(byId("epoch-loss-chart"), { ...shared, title: "Loss per epoch", lines: lines("loss"), y: "loss", log: true });
  const format = (share, digits = 4) => `${Number((100 * share).toPrecision(digits))}%`;
  new Chart(byId("epoch-accuracy-chart"), { ...shared, title: "Accuracy per epoch", lines: lines("accuracy"), y: "accuracy", format });
}

/** Kept images as figures. */
class Pictures {
  constructor(images) {
    Object.assign(this, images);
    this.bytes = bytes(images.pixels);
  }

  figure(place) {
    const [label, answer, really] = [this.labels[place], this.answers[place], this.really[place]];
    const words = label === answer ? `${label}, rightly` : `${label}, answered ${answer}`;
    const canvas = element("canvas", { class: "ink", width: 28, height: 28, role: "img", "aria-label": `test image ${this.rows[place]}: ${words}` });
    showInk(canvas, this.bytes.subarray(784 * place, 784 * (place + 1)));
    const caption = element("figcaption", {}, element("strong", {}, label === answer ? String(label) : `${label} → ${answer}`), `${percent(this.sure[place])} sure`, element("br"), `no. ${this.rows[place]}`);
    if (really !== null) caption.append(element("br"), element("span", { class: "known", title: "Northcutt et al. 2021" }, `label wrong: ${really}`));
    return element("figure", {}, canvas, caption);
  }

  /** The places of a cell's images, in the order in which they were kept. */
  of(label, answer) {
    return this.rows.map((_, place) => place).filter((place) => this.labels[place] === label && this.answers[place] === answer);
  }
}

function mistakes(pictures) {
  byId("worst").append(...pictures.worst.map((place) => pictures.figure(place)));
  const buttons = [...document.querySelectorAll(".confusion button")];
  const show = (button) => {
    const [label, answer] = [Number(button.dataset.label), Number(button.dataset.answer)];
    const places = pictures.of(label, answer);
    const count = Number(button.textContent);
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    const rightly = places.length ? ", the least sure first" : "";
    const kept = places.length === count ? `${count}` : `${places.length} of ${count}${label === answer ? rightly : ""}`;
    byId("cell-title").textContent = `Label ${label}, answer ${answer}: ${kept}`;
    const gone = element("p", { class: "gap" }, "The run kept no image of this cell.");
    byId("cell").replaceChildren(...(places.length ? places.map((place) => pictures.figure(place)) : [gone]));
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  const wrong = buttons.filter((button) => !button.classList.contains("right"));
  const most = wrong.reduce((best, button) => (best && Number(best.textContent) >= Number(button.textContent) ? best : button), null);
  if (most) show(most);
}

/** Each unit's weights: blue inhibits, orange excites, the page shows through where there is none. */
function weights({ units, shown, limit, tiles }) {
  const values = new Int8Array(bytes(tiles).buffer);
  byId("weights-note").textContent = `${shown === units ? "All" : `The first ${shown} of`} ${units} units. Ink at an orange pixel raises a unit's value, at a blue one lowers it; full colour is ±${figure(limit)}.`;
  for (let unit = 0; unit < shown; unit += 1) {
    const canvas = element("canvas", { width: 28, height: 28, role: "img", "aria-label": `weights of unit ${unit}` });
    const paint = canvas.getContext("2d");
    const image = paint.createImageData(28, 28);
    for (let place = 0; place < 784; place += 1) {
      const value = values[784 * unit + place];
      image.data.set([...(value > 0 ? [217, 95, 26] : [43, 117, 196]), Math.min(255, 2 * Math.abs(value))], 4 * place);
    }
    paint.putImageData(image, 0, 0);
    byId("tiles").append(canvas);
  }
}

/** A row of images each: the training image, then changed ones of it. */
function augmented({ across, pixels }) {
  const values = bytes(pixels);
  byId("rows").style.setProperty("--across", across);
  for (let place = 0; 784 * place < values.length; place += 1) {
    const [row, column] = [Math.floor(place / across), place % across];
    const name = column ? `training image ${row}, changed` : `training image ${row}`;
    const canvas = element("canvas", { class: column ? "ink" : "ink own", width: 28, height: 28, role: "img", "aria-label": name });
    showInk(canvas, values.subarray(784 * place, 784 * (place + 1)));
    byId("rows").append(canvas);
  }
}

if (FACTS.batches) lossCharts(FACTS.batches);
if (FACTS.epochs) epochCharts(FACTS.epochs);
if (FACTS.images) mistakes(new Pictures(FACTS.images));
if (FACTS.augmented) augmented(FACTS.augmented);
if (FACTS.weights) weights(FACTS.weights);
if (FACTS.network) {
  const answerOf = network(FACTS.network);
  const pad = drawing(answerOf);
  window.mnistFF = { answerOf, centred, pad }; // for the console
}

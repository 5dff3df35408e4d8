// A run's report: its curves, its mistakes, its weights, its network.

function lossCharts(batches) {
  const loss = floats(batches.loss);
  const xs = Float64Array.from(loss, (_, index) => Math.min((index + 1) * batches.per_point, batches.count));
  const position = (x) => {
    const epoch = Math.floor((x - 1) / batches.per_epoch);
    return `${upTo(x, batches.per_point)} (epoch ${whole(epoch + 1)}, ${whole(x - epoch * batches.per_epoch)}/${whole(batches.per_epoch)})`;
  };
  const inFirstEpoch = (x) => `${upTo(x, batches.per_point)} (epoch 1)`; // how many it would have had is not known
  const widths = [1];
  while (widths.at(-1) * 2 <= loss.length / 4) widths.push(widths.at(-1) * 2);
  const wanted = widths.findLastIndex((width) => width <= Math.max(1, loss.length / 50));
  const slider = element("input", { type: "range", min: 0, max: widths.length - 1, step: 1, value: wanted, input: () => chart.setLines(lines()) });
  const said = element("span");
  const name = batches.per_point > 1 ? `mean of ${whole(batches.per_point)} batches` : "each batch";
  const lines = () => {
    const width = widths[slider.value];
    said.textContent = `smooth over ${whole(width * batches.per_point)}`;
    const raw = { name, said: "loss", look: width > 1 ? "raw thin" : "s0 thin", xs, ys: loss, quiet: true };
    return width > 1 ? [raw, { name: "smoothed", look: "s0", xs, ys: smoothed(loss, width), quiet: true }] : [raw];
  };
  const shared = { x: "batch", read: batches.per_epoch ? position : inFirstEpoch, whole: true };
  const smoothing = element("label", {}, said, slider);
  const chart = new Chart(byId("loss-chart"), { ...shared, title: "Loss per batch", y: "cross-entropy (nats)", log: true, height: 300, lines: lines(), ...(widths.length > 1 ? { smoothing } : {}) });
  if (!batches.lr) return; // constant: the page states it as text
  const rates = new Float64Array(bytes(batches.lr).buffer);
  new Chart(byId("lr-chart"), { ...shared, title: "Learning rate", y: "", height: 150, lines: [{ name: "learning rate", look: "s0", xs, ys: rates }] });
}

function epochCharts({ part, columns, best }) {
  const xs = columns.epoch.map((epoch) => epoch + 1);
  const lines = (what) => [
    { name: "train, running", look: "s0", xs, ys: columns[`train_${what}`] },
    { name: "train, evaluated", look: "s0 dashed", xs, ys: columns[`train_eval_${what}`] },
    { name: part || "test", look: "s1", xs, ys: columns[`${part}_${what}`] },
  ].filter((line) => line.ys);
  const marked = (what, word, below) => (best[what] && xs.length > 1 ? { best: { x: best[what], text: `${word}: epoch ${whole(best[what])}`, below } } : {});
  const shared = { ...BY_EPOCH, height: 260 };
  new Chart(byId("epoch-loss-chart"), { ...shared, title: "Loss per epoch", lines: lines("loss"), y: "cross-entropy (nats)", log: true, ...marked("loss", "lowest", false) });
  new Chart(byId("epoch-accuracy-chart"), { ...shared, title: "Accuracy per epoch", lines: lines("accuracy"), y: "accuracy", ...AS_PERCENT, ...marked("accuracy", "highest", true) });
}

const METRICS = new Map([
  ["gradient_norms", "gradient norm of each layer (L2)"], ["weight_norms", "weight norm of each layer (L2)"],
  ["dead_units", "dead units of each layer"], ["calibration", "calibration: ECE and Brier score"],
]);
const VALUES = new Map([["calibration/ece", "ECE"], ["calibration/brier", "Brier score"]]);

/** A chart for each metric, a line for each of its values. */
function metricCharts({ metrics, columns }) {
  const xs = columns.epoch.map((epoch) => epoch + 1);
  for (const [metric, all] of Object.entries(metrics)) {
    const found = all.filter((column) => Object.hasOwn(columns, column)); // the others were never finite
    const few = found.length <= MAX_NAMED;
    const lines = found.map((column, index) => (
      { name: VALUES.get(column) ?? (column.slice(metric.length + 1) || metric), look: few ? `s${index}` : "s0 faint", quiet: !few, xs, ys: columns[column] }
    ));
    const host = element("div", { id: `metric_${metric}` });
    byId("metric-charts").append(host);
    const title = METRICS.get(metric) ?? metric;
    new Chart(host, { ...BY_EPOCH, height: 220, title: `${title} per epoch`, y: title, lines, only: !few, ...(metric === "dead_units" ? AS_PERCENT : {}) });
  }
}

/** The saved images: the worst mistakes, and those of each cell of the confusion matrix. */
function mistakes({ pixels, labels, predicted, really, rows, sure, worst }, names) {
  const images = bytes(pixels);
  const figureOf = (index) => {
    const [label, prediction] = [names[labels[index]], names[predicted[index]]];
    const right = labels[index] === predicted[index];
    const words = `${label}, ${right ? "correct" : `predicted ${prediction}`}`;
    const canvas = imageCanvas({ class: INK, "aria-label": `test image ${rows[index]}: ${words}` }, shown(images, index));
    const title = element("strong", {}, right ? label : `${label} → ${prediction}`);
    const caption = element("figcaption", {}, title, `${percent(sure[index])} sure`, element("br"), `no. ${rows[index]}`);
    if (really[index] !== null) caption.append(element("span", { class: "known", title: "Northcutt et al. 2021" }, "wrong label"), `people: ${really[index]}`);
    return element("figure", {}, canvas, caption);
  };
  byId("worst")?.append(...worst.map(figureOf));
  const buttons = [...document.querySelectorAll(".confusion button, .confusion-list button")];
  const show = (button) => {
    const [label, prediction, count] = [button.dataset.label, button.dataset.predicted, button.dataset.count].map(Number);
    const indices = [...rows.keys()].filter((index) => labels[index] === label && predicted[index] === prediction);
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    const order = label === prediction && indices.length ? ", least confident first" : "";
    byId("cell-title").textContent = `Label ${names[label]}, predicted ${names[prediction]}: ${indices.length === count ? count : `${indices.length} of ${count}${order}`}`;
    byId("cell").replaceChildren(...(indices.length ? indices.map(figureOf) : [element("p", { class: "gap" }, "No image of this cell is in this page.")]));
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  const wrong = buttons.filter((button) => !button.classList.contains("right"));
  if (wrong.length) show(closest(wrong, (button) => -Number(button.dataset.count)));
}

/**
 * Each unit's weights as an image. One channel: orange is positive, blue negative, transparent 0.
 * Several channels: each in its own colour; grey is 0.
 */
function weights({ units, shown: count, limit, tiles }) {
  const values = new Int8Array(bytes(tiles).buffer);
  const meaning = LOOK.channels === 1
    ? `${LOOK.ink ? "Ink" : "Light"} at an orange pixel raises a unit's value, at a blue one lowers it; full colour is`
    : "Light of a bright colour raises a unit's value, of a dark one lowers it; grey is 0, black and white are";
  byId("weights-note").textContent = `${count === units ? "All" : `The first ${count} of`} ${units} units. ${meaning} ±${figure(limit)}.`;
  for (let unit = 0; unit < count; unit += 1) {
    const start = LOOK.channels * PIXELS * unit;
    byId("tiles").append(imageCanvas({ "aria-label": `weights of unit ${unit + 1}` }, (index) => {
      if (LOOK.channels > 1) return [...colour((channel) => 128 + values[start + channel * PIXELS + index]), 255];
      const value = values[start + index];
      return [...(value > 0 ? [217, 95, 26] : [43, 117, 196]), Math.min(255, 2 * Math.abs(value))];
    }));
  }
}

/** Rows of images: a training image, then augmented versions of it. */
function augmented({ across, pixels }) {
  const images = bytes(pixels);
  byId("rows").style.setProperty("--across", across);
  for (let index = 0; LOOK.channels * PIXELS * index < images.length; index += 1) {
    const changed = index % across > 0;
    const name = `training image ${Math.floor(index / across) + 1}${changed ? ", changed" : ""}`;
    byId("rows").append(imageCanvas({ class: changed ? INK : `${INK} own`, "aria-label": name }, shown(images, index)));
  }
}

/** Open a <details> element, except on a phone; open it for printing. */
function unfold(details) {
  details.open = matchMedia("(min-width: 601px)").matches;
  addEventListener("beforeprint", () => (details.open = true));
}

if (FACTS.batches) lossCharts(FACTS.batches);
if (FACTS.epochs) epochCharts(FACTS.epochs);
if (byId("metric-charts")) metricCharts(FACTS.epochs);
if (byId("speed-chart")) speedChart(FACTS.epochs, FACTS.batches);
if (FACTS.calibration) calibrationCharts(FACTS.calibration);
if (FACTS.layers?.length) activityChart(FACTS.layers);
if (FACTS.map) window.mnistMap = new ImageMap(FACTS.map, FACTS.images, FACTS.classes);
if (FACTS.images) mistakes(FACTS.images, FACTS.classes);
if (FACTS.augmented) augmented(FACTS.augmented);
if (FACTS.weights) weights(FACTS.weights);
for (const details of document.querySelectorAll("details.fold")) unfold(details);
if (FACTS.network) {
  const { predict, saliency } = network(FACTS.network);
  const pad = drawing(predict, saliency, FACTS.classes);
  window.mnistFF = { predict, saliency, centred, scaled, pad }; // for the console
}

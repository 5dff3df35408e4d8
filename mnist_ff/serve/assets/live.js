// The live page of a run: the loss per batch, the scores per epoch, the progress, and how the run ended.

const MAX_POINTS = 32_768; // of the loss curve; with more, every two points become one
const SPEED_WINDOW_MS = 20_000; // the speed is measured over the last 20 s
const RESUME_POLL_MS = 5_000; // how often to check whether a run that ended has been resumed
const RETRY_MS = 5_000; // after the server refused a connection

const curve = { xs: [], ys: [], size: 1, held: [] }; // size: batches per point; held: values of the next point
const speed = []; // [milliseconds, batches done]
let state = null;
let epochs = null;
let at = null; // [epoch, batch]
let done = 0;
let last = ""; // the id of the last event, sent to the server when the page reconnects
let source = null;
let listening = false;
let scheduled = false;

const shared = { x: "batch", whole: true, read: (x) => position(x) };
const lossChart = new Chart(byId("loss-chart"), { ...shared, title: "Loss per batch", y: "cross-entropy (nats)", log: true, height: 300, lines: [] });
const epochChart = (what, more) => new Chart(byId(`epoch-${what}-chart`), { ...BY_EPOCH, height: 240, title: `${what} per epoch`, y: what, lines: [], ...more });
const epochLoss = epochChart("loss", { log: true });
const epochAccuracy = epochChart("accuracy", AS_PERCENT);

function position(x) {
  if (!state?.per_epoch) return upTo(x, curve.size);
  const epoch = Math.floor((x - 1) / state.per_epoch);
  return `${upTo(x, curve.size)} (epoch ${whole(epoch + 1)}, ${whole(x - epoch * state.per_epoch)}/${whole(state.per_epoch)})`;
}

/** Add points of `size` batches each. If the curve's points have more batches, they are held until they fill one. */
function add({ again, size, steps, losses, epoch, batch }) {
  if (again) Object.assign(curve, { xs: [], ys: [], size, held: [] });
  if (again) speed.length = 0;
  for (const [index, step] of steps.entries()) {
    curve.held.push(losses[index]);
    if (curve.held.length * size < curve.size) continue;
    curve.xs.push(step);
    curve.ys.push(mean(curve.held));
    curve.held = [];
    if (curve.xs.length >= MAX_POINTS) halve();
  }
  if (!steps.length) return;
  [done, at] = [steps.at(-1), [epoch, batch]];
  speed.push([performance.now(), done]);
  while (speed.length > 2 && speed.at(-1)[0] - speed[0][0] > SPEED_WINDOW_MS) speed.shift();
}

const mean = (values) => (values.includes(null) ? null : values.reduce((sum, value) => sum + value, 0) / values.length);

/** Halve the number of points: each is the mean of two. */
function halve() {
  const pairs = Math.floor(curve.xs.length / 2);
  curve.ys = Array.from({ length: pairs }, (_, pair) => mean([curve.ys[2 * pair], curve.ys[2 * pair + 1]]));
  curve.xs = Array.from({ length: pairs }, (_, pair) => curve.xs[2 * pair + 1]);
  curve.size *= 2;
}

/** Replace the lines of a chart. A chart that shows the whole range goes on to do so; one that is zoomed in stays so. */
function redraw(chart, lines) {
  const all = chart.range === undefined || (chart.range[0] === chart.full[0] && chart.range[1] === chart.full[1]);
  if (all) chart.range = undefined;
  const key = [...chart.keys.children].indexOf(document.activeElement);
  chart.setLines(lines);
  if (key >= 0) chart.keys.children[key]?.focus({ preventScroll: true }); // setLines replaces the legend
}

function draw() {
  scheduled = false;
  let width = 1;
  while (width * 2 <= curve.ys.length / 50) width *= 2;
  const raw = { name: curve.size > 1 ? "mean" : "batch", said: "loss", look: width > 1 ? "raw thin" : "s0 thin", xs: curve.xs, ys: curve.ys };
  const smooth = { name: "smoothed", said: `smoothed over ${whole(width * curve.size)}`, look: "s0", xs: curve.xs, ys: width > 1 ? smoothed(curve.ys, width) : [] };
  redraw(lossChart, width > 1 ? [raw, smooth] : [raw]);
  if (epochs) {
    const lines = (what) => [
      { name: "train", look: "s0", xs: epochs.epoch, ys: epochs[`train_${what}`] },
      { name: "validation", look: "s2", xs: epochs.epoch, ys: epochs[`validation_${what}`] },
      { name: "test", look: "s1", xs: epochs.epoch, ys: epochs[`test_${what}`] },
    ].filter((line) => line.ys);
    redraw(epochLoss, lines("loss"));
    redraw(epochAccuracy, lines("accuracy"));
  }
  showTiles();
}

/** Draw at the next animation frame, once for all events until then. */
function scheduleDraw() {
  if (!scheduled) requestAnimationFrame(draw);
  scheduled = true;
}

function tile(caption, value, note = "") {
  return element("div", {}, element("dt", {}, caption), element("dd", {}, value, element("small", {}, note)));
}

function showTiles() {
  if (!state) return;
  const total = state.per_epoch && state.of_epochs ? state.per_epoch * state.of_epochs : null;
  const lastLoss = curve.ys.at(-1) ?? null;
  const score = (what, found) => (found ? [tile(`${what} accuracy`, `${(100 * found.accuracy).toFixed(2)} %`, `loss ${found.loss.toFixed(4)}`)] : []);
  const watched = epochs && epochs.part ? epochs[`${epochs.part}_accuracy`]?.at(-1) : null;
  const known = state.test || state.validation;
  const tiles = [
    tile("Epochs", whole(state.epochs), state.of_epochs ? `of ${whole(state.of_epochs)} done` : "done"),
    tile("Batches", whole(done), at && !state.over ? `epoch ${whole(at[0])}, batch ${whole(at[1])}${state.per_epoch ? ` of ${whole(state.per_epoch)}` : ""}` : total ? `of ${whole(total)}` : ""),
    tile("Loss", lastLoss === null ? "-" : lastLoss.toFixed(4), curve.size > 1 ? `mean of the last ${whole(curve.size)} batches` : "last batch"),
    ...(known ? [...score("Validation", state.validation), ...score("Test", state.test)] : []),
    ...(!known && watched !== null && watched !== undefined ? [tile(`${epochs.part === "test" ? "Test" : "Validation"} accuracy`, `${(100 * watched).toFixed(2)} %`, `after epoch ${whole(epochs.epoch.at(-1))}`)] : []),
    ...(state.over ? [] : [tile("Time left", timeLeft(total), "training, at the current speed")]),
    ...(state.seconds ? [tile("Time", `${state.seconds.toFixed(1)} s`, "of the whole run")] : []),
  ];
  byId("tiles").replaceChildren(...tiles);
  const bar = byId("progress");
  if (total) bar.value = Math.min(1, done / total);
  else bar.removeAttribute("value");
  bar.hidden = state.over && state.status !== "interrupted";
}

function timeLeft(total) {
  const [first, now] = [speed[0], speed.at(-1)];
  if (!total || speed.length < 2 || now[1] <= first[1] || now[0] - first[0] < 500) return "-";
  const seconds = Math.max(0, ((total - done) * (now[0] - first[0])) / (now[1] - first[1]) / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  if (hours) return `${whole(hours)} h ${minutes} min`;
  return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.ceil(seconds)} s`;
}

function status(value) {
  state = value;
  const words = byId("status");
  words.textContent = value.status;
  words.className = `status ${value.over ? (value.status === "finished" || value.status === "pruned" ? "good" : "bad") : "going"}`;
  byId("reason").textContent = value.reason ?? "";
  byId("said").textContent = value.over ? endText(value) : "The page follows the run until it ends.";
  byId("report").classList.toggle("main", value.over);
  byId("report").textContent = value.over ? "Open the report" : "Report so far";
  document.title = `${value.over ? value.status : `epoch ${at ? at[0] : 1}`} · ${FACTS.title}`;
}

function endText({ status: how, epochs: count, of_epochs: of }) {
  const whatFollows = { interrupted: " It can be resumed, and this page then goes on.", broken: "" }[how] ?? "";
  return how === "broken" ? "The run cannot be read." : `The run ended: ${how}, ${count} of ${of ?? "?"} epochs.${whatFollows}`;
}

/** Open the event stream after the last event. */
function listen() {
  source?.close();
  source = new EventSource(`/events/${FACTS.id}?${new URLSearchParams({ after: last })}`);
  const on = (name, act) => source.addEventListener(name, (event) => {
    if (event.lastEventId) last = event.lastEventId;
    act(JSON.parse(event.data));
    scheduleDraw();
  });
  on("batches", add);
  on("epochs", (value) => (epochs = value));
  on("status", status);
  on("end", () => {
    stop();
    setTimeout(checkAgain, RESUME_POLL_MS);
  });
  source.onopen = () => showConnection("");
  source.onerror = () => {
    if (!listening) return;
    if (source.readyState !== EventSource.CLOSED) {
      showConnection("The connection is lost; trying again ...");
      return;
    }
    showConnection("The server does not respond, the run was removed, or too many live pages are open; trying again ...");
    setTimeout(() => listening && listen(), RETRY_MS);
  };
}

function showConnection(text) {
  byId("link").hidden = !text;
  byId("link").textContent = text;
}

function start() {
  listening = true;
  listen();
}

function stop() {
  listening = false;
  source?.close();
}

/** Connect again after the run's end: it may have been resumed. */
function checkAgain() {
  if (!document.hidden && !listening) start();
}

// A tab in the background closes its connection: a browser opens at most six to one server.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop();
  else if (!listening) start();
});
addEventListener("pagehide", stop);
addEventListener("pageshow", (event) => event.persisted && start());
start();

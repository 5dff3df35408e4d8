// Charts of calibration, of the hidden layers' activity and of speed.

/** The reliability diagram, and the share of images answered at each confidence threshold. */
function calibrationCharts({ bins, coverage }) {
  const share = { ...AS_PERCENT, height: 300 };
  const column = (index) => bins.map((bin) => bin[index]);
  const counts = new Map(bins.map(([mean, , count]) => [mean, count]));
  const read = (x) => `confidence ${percent(x, 2)}${counts.has(x) ? ` (${counts.get(x) === 1 ? "1 image" : `${whole(counts.get(x))} images`})` : ""}`;
  new Chart(byId("reliability-chart"), {
    ...share, title: "Reliability", x: "mean confidence of a bin (%)", y: "accuracy of a bin", tick: (x) => String(Math.round(100 * x)), read, ends: [0, 1], span: [0, 1],
    lines: [
      { name: "accuracy", look: "s0", xs: column(0), ys: column(1), low: column(3), high: column(4), points: true },
      { name: "perfectly calibrated", look: "s7 dashed", xs: [0, 1], ys: [0, 1], unread: true },
    ],
  });
  const xs = coverage.map(([threshold]) => threshold);
  new Chart(byId("coverage-chart"), {
    ...share, title: "Answered images", x: "confidence threshold (%)", y: "share of images", span: [0, 1], tick: (x) => String(Math.round(100 * x)), read: (x) => `confidence of at least ${AS_PERCENT.format(x)}`,
    lines: [
      { name: "answered", look: "s0", xs, ys: coverage.map(([, answered]) => answered) },
      { name: "correct among answered", look: "s1", xs, ys: coverage.map(([, , accuracy]) => accuracy) },
    ],
  });
}

/** The share of images on which each hidden unit is active. */
function activityChart(layers) {
  const lines = layers.map(({ name, curve }, index) => (
    { name, look: `s${index % MAX_NAMED}`, xs: curve.map((_, unit) => (100 * unit) / Math.max(1, curve.length - 1)), ys: curve }
  ));
  new Chart(byId("activity-chart"), {
    ...AS_PERCENT, title: "Activity of hidden units", x: "units of a layer, most active first (%)", y: "images on which a unit is active", height: 240, ends: [0, 1], lines,
    read: (x) => `unit at ${percent(x / 100, 0)} of its layer`,
  });
}

/** Images per second in each epoch, evaluation included. */
function speedChart({ columns }, batches) {
  const xs = columns.epoch.map((epoch) => epoch + 1);
  const speeds = columns.seconds.map((seconds) => (seconds ? batches.images / seconds : null));
  const seconds = new Map(xs.map((x, index) => [x, columns.seconds[index]]));
  const read = (x) => `epoch ${whole(x)}, ${figure(seconds.get(x))} s`;
  new Chart(byId("speed-chart"), { ...BY_EPOCH, read, title: "Images a second", y: "images a second", height: 180, say: (y) => whole(Math.round(y)), lines: [{ name: "images a second", look: "s0", xs, ys: speeds }] });
}

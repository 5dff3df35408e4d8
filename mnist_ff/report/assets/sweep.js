// Several runs on one page: a table that sorts, and their curves on top of each other.

/** Sort a table's rows by a column, numbers by size, the other way when asked again. */
function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => compared(a.cells[place].textContent, b.cells[place].textContent));
      body.append(...(up ? rows : rows.reverse()));
    };
    head.replaceChildren(element("button", { type: "button", click: sort }, ...head.childNodes));
  });
}

function compared(a, b) {
  const [first, second] = [a, b].map((text) => Number.parseFloat(text));
  if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second) || a.localeCompare(b, "en");
  return first - second || a.localeCompare(b, "en", { numeric: true });
}

/** Few settings each have a colour; of many the best ones, and the others are grey and without a band. */
function look(place, count) {
  const named = count <= MOST_NAMED ? count : MOST_NAMED - 1;
  return place < named ? { look: `s${place}`, named: true } : { look: `s${MOST_NAMED - 1} faint`, named: false };
}

/** What all names begin with, up to the end of a folder's or of a key's part. */
function commonBeginning(names) {
  const [first, ...others] = names;
  let same = 0;
  while (same < first.length && others.every((name) => name[same] === first[same])) same += 1;
  const shared = others.length ? first.slice(0, same) : "";
  return shared.slice(0, Math.max(shared.lastIndexOf("/"), shared.lastIndexOf(" ")) + 1);
}

/** The lines of a chart: `pick` gives xs and [means, lowest, highest] of one setting, or nothing. */
function linesOf(curves, pick) {
  const made = curves.filter((curve) => !curve.hidden && pick(curve)).map((curve) => {
    const { xs, band: [ys, low, high] } = pick(curve);
    const spread = curve.runs > 1 && curve.named ? { low, high } : {};
    return { name: curve.name, look: curve.look, quiet: true, xs, ys, ...spread };
  });
  return made.reverse(); // the best on top
}

/** One legend for all charts: whole names; a click takes a setting out of the charts and back. */
function legend(curves, redraw) {
  const sample = (look) => drawn("svg", { "aria-hidden": "true" }, drawn("path", { class: `line ${look}`, d: "M0 5L26 5" }));
  const entry = (curve) => {
    const button = element("button", { type: "button", class: "key", "aria-pressed": "true", click: () => {
      curve.hidden = !curve.hidden;
      button.setAttribute("aria-pressed", String(!curve.hidden));
      redraw();
    } }, sample(curve.look), element("span", {}, curve.shown));
    return button;
  };
  const named = curves.filter((curve) => curve.named);
  const others = curves.length - named.length;
  byId("legend").replaceChildren(...named.map(entry));
  if (others) byId("legend").append(element("span", { class: "key" }, sample(`s${MOST_NAMED - 1} faint`), `${others} more`));
}

/** Accuracy and loss by epoch for each set of images, and the loss while training. */
function charts(curves) {
  const parts = [...new Set(curves.filter((curve) => curve.epochs.epoch).map((curve) => curve.part))];
  const shared = { height: 300, only: curves.length > MOST_NAMED, legendElsewhere: true };
  const made = parts.flatMap((part, place) => {
    const epochs = (what) => () => linesOf(curves.filter((curve) => curve.part === part), ({ epochs: found }) => found[what] && { xs: found.epoch, band: found[what] });
    const chart = (name, what, spec) => [new Chart(document.querySelectorAll(`.${what}-chart`)[place], { ...BY_EPOCH, ...shared, title: `${name} per epoch, ${part}`, y: part, lines: epochs(what)(), ...spec }), epochs(what)];
    return [chart("Accuracy", "accuracy", AS_PERCENT), chart("Loss", "loss", { log: true })];
  });
  const batches = () => linesOf(curves, ({ batches: found }) => found && { xs: found.batch, band: found.loss });
  const sizes = [...new Set(curves.filter((curve) => curve.batches).map((curve) => curve.batches.per_point))].sort((a, b) => a - b);
  const read = (x) => (sizes.length > 1 ? `means of ${sizes[0]} to ${sizes.at(-1)} batches up to batch ${whole(x)}` : upTo(x, sizes[0]));
  const training = new Chart(byId("batch-chart"), { ...shared, title: "Loss while training", x: "batch", y: sizes.at(-1) > 1 ? "mean over some batches" : "loss of a batch", lines: batches(), log: true, read });
  return [...made, [training, batches]];
}

function curves(found) {
  const beginning = commonBeginning(found.map((curve) => curve.name));
  const styled = found.map((curve, place) => ({
    ...curve, ...look(place, found.length), name: curve.name.slice(beginning.length) || curve.name, shown: curve.legend.slice(beginning.length) || curve.legend,
  }));
  const bands = styled.some((curve) => curve.runs > 1) ? "A line is the mean over the seeds of a setting, its band goes from the lowest to the highest. " : "";
  const grey = styled.some((curve) => !curve.named) ? "The best ones have a colour; the line nearest to the pointer says which it is. " : "";
  const jobs = styled.every((curve) => /^[0-9]+$/.test(curve.shown)) ? "The names are the jobs' numbers, as in the table. " : "";
  byId("runs-note").textContent = bands + grey + jobs + (beginning ? `The names are without “${beginning.trim()}”, which all begin with.` : "");
  const made = charts(styled);
  legend(styled, () => made.forEach(([chart, lines]) => chart.setLines(lines())));
}

/** Say which columns of a table are beyond its box. */
function sayWhatIsBeyond(table) {
  const [box, hint] = [table.parentElement, table.parentElement.nextElementSibling];
  const edge = box.getBoundingClientRect().left + box.clientWidth;
  const hidden = [...table.tHead.rows[0].cells].filter((cell) => cell.getBoundingClientRect().right > edge + 1).map((cell) => cell.textContent);
  if (box.scrollLeft === 0) {
    hint.hidden = !hidden.length;
    hint.textContent = `Scroll the table sideways for ${hidden.join(", ")}.`;
  }
}

for (const table of document.querySelectorAll(".sortable")) {
  sortable(table);
  new ResizeObserver(() => sayWhatIsBeyond(table)).observe(table.parentElement);
}
if (FACTS.curves.length) curves(FACTS.curves);

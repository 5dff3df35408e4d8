// Several runs on one page: a sortable table, and the curves of all settings in shared charts.

/** Make a table sortable: a click on a column's head sorts by it, a second one in descending order. */
function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    const sort = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => compared(a.cells[index].textContent, b.cells[index].textContent));
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

/** The style of a setting's line. With many settings only the best have a colour; the others are grey, without a band. */
function look(index, count) {
  const named = count <= MAX_NAMED ? count : MAX_NAMED - 1;
  return index < named ? { look: `s${index}`, named: true } : { look: `s${MAX_NAMED - 1} faint`, named: false };
}

/** The common prefix of all names, up to the last "/" or space in it. */
function commonPrefix(names) {
  const [first, ...others] = names;
  let same = 0;
  while (same < first.length && others.every((name) => name[same] === first[same])) same += 1;
  const shared = others.length ? first.slice(0, same) : "";
  return shared.slice(0, Math.max(shared.lastIndexOf("/"), shared.lastIndexOf(" ")) + 1);
}

/** The lines of a chart. `pick` returns the xs and [means, minima, maxima] of one setting, or undefined. */
function linesOf(curves, pick) {
  const made = curves.filter((curve) => !curve.hidden && pick(curve)).map((curve) => {
    const { xs, band: [ys, low, high] } = pick(curve);
    const spread = curve.runs > 1 && curve.named ? { low, high } : {};
    return { name: curve.name, look: curve.look, quiet: true, xs, ys, ...spread };
  });
  return made.reverse(); // the best on top
}

/** One legend for all charts, with full names. A click hides a setting in all of them, or shows it again. */
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
  if (others) byId("legend").append(element("span", { class: "key" }, sample(`s${MAX_NAMED - 1} faint`), `${others} more`));
}

/** Charts of accuracy and loss per epoch for each set of images, and of the training loss. */
function charts(curves) {
  const parts = [...new Set(curves.filter((curve) => curve.epochs.epoch).map((curve) => curve.part))];
  const shared = { height: 300, only: curves.length > MAX_NAMED, legendElsewhere: true };
  const made = parts.flatMap((part, index) => {
    const epochs = (what) => () => linesOf(curves.filter((curve) => curve.part === part), ({ epochs: found }) => found[what] && { xs: found.epoch, band: found[what] });
    const chart = (name, what, unit, spec) => [new Chart(document.querySelectorAll(`.${what}-chart`)[index], { ...BY_EPOCH, ...shared, title: `${name} per epoch, ${part}`, y: `${unit}, ${part}`, lines: epochs(what)(), ...spec }), epochs(what)];
    return [chart("Accuracy", "accuracy", "accuracy", AS_PERCENT), chart("Loss", "loss", "cross-entropy (nats)", { log: true })];
  });
  const batches = () => linesOf(curves, ({ batches: found }) => found && { xs: found.batch, band: found.loss });
  const sizes = [...new Set(curves.filter((curve) => curve.batches).map((curve) => curve.batches.per_point))].sort((a, b) => a - b);
  const read = (x) => (sizes.length > 1 ? `means of ${sizes[0]} to ${sizes.at(-1)} batches up to batch ${whole(x)}` : upTo(x, sizes[0]));
  const training = new Chart(byId("batch-chart"), { ...shared, title: "Loss while training", x: "batch", y: `cross-entropy (nats), ${sizes.at(-1) > 1 ? "means of some batches" : "each batch"}`, lines: batches(), log: true, read });
  return [...made, [training, batches]];
}

function curves(found) {
  const prefix = commonPrefix(found.map((curve) => curve.name));
  const styled = found.map((curve, index) => ({
    ...curve, ...look(index, found.length), name: curve.name.slice(prefix.length) || curve.name, shown: curve.legend.slice(prefix.length) || curve.legend,
  }));
  const bands = styled.some((curve) => curve.runs > 1) ? "A line is the mean over a setting's seeds; its band goes from the lowest to the highest. " : "";
  const grey = styled.some((curve) => !curve.named) ? "The best settings have a colour; point at a line for its name. " : "";
  const jobs = styled.every((curve) => /^[0-9]+$/.test(curve.shown)) ? "The names are the jobs' numbers, as in the table. " : "";
  byId("runs-note").textContent = bands + grey + jobs + (prefix ? `The names are shown without “${prefix.trim()}”, their common beginning.` : "");
  const made = charts(styled);
  legend(styled, () => made.forEach(([chart, lines]) => chart.setLines(lines())));
}

/** Name the columns that are scrolled out of sight. */
function nameHiddenColumns(table) {
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
  new ResizeObserver(() => nameHiddenColumns(table)).observe(table.parentElement);
}
if (FACTS.curves.length) curves(FACTS.curves);

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
    head.replaceChildren(element("button", { type: "button", click: sort }, head.textContent));
  });
}

function compared(a, b) {
  const [first, second] = [a, b].map((text) => Number.parseFloat(text));
  if (Number.isNaN(first) || Number.isNaN(second)) return Number.isNaN(first) - Number.isNaN(second) || a.localeCompare(b, "en");
  return first - second || a.localeCompare(b, "en", { numeric: true });
}

/** Few runs each have a colour and a name; of many the best one stands out, and the pointer brings out any. */
function look(place, count) {
  if (count <= MOST_NAMED) return { look: `s${place}`, quiet: false };
  return place ? { look: "s0 faint", quiet: true } : { look: "s1", quiet: true };
}

/** What all names begin with, up to the end of a folder's or of a key's part. */
function commonBeginning(names) {
  const [first, ...others] = names;
  let same = 0;
  while (same < first.length && others.every((name) => name[same] === first[same])) same += 1;
  const shared = others.length ? first.slice(0, same) : "";
  return shared.slice(0, Math.max(shared.lastIndexOf("/"), shared.lastIndexOf(" ")) + 1);
}

function curves(found) {
  const beginning = commonBeginning(found.map((run) => run.name));
  const runs = found.map((run) => ({ ...run, name: run.name.slice(beginning.length) || run.name }));
  const few = runs.length <= MOST_NAMED;
  const which = few ? "" : `Each line is a run; the best by ${FACTS.ranked_by} is orange. The line nearest to the pointer says which it is. `;
  byId("runs-note").textContent = which + (beginning ? `Their names are without “${beginning.trim()}”, which all begin with.` : "");
  const styled = runs.map((run, place) => ({ ...run, ...look(place, runs.length) }));
  const lines = (pick) => {
    const made = styled.map((run) => ({ name: run.name, look: run.look, quiet: run.quiet, ...pick(run) })).filter((line) => line.xs);
    return few ? made : [...made.slice(1), ...made.slice(0, 1)]; // the best on top
  };
  const epochs = (what) => lines(({ epochs: found }) => (found?.[what] ? { xs: found.epoch.map((epoch) => epoch + 1), ys: found[what] } : {}));
  const part = runs.find((run) => run.part)?.part ?? "test";
  const shared = { ...BY_EPOCH, height: 300, only: !few };
  new Chart(byId("accuracy-chart"), { ...shared, title: `Accuracy per epoch, ${part} images`, y: part, lines: epochs("accuracy"), ...AS_PERCENT });
  new Chart(byId("loss-chart"), { ...shared, title: `Loss per epoch, ${part} images`, y: part, lines: epochs("loss"), log: true });
  const batches = lines(({ batches: found }) => {
    if (!found) return {};
    const xs = found.loss.map((_, place) => Math.min((place + 1) * found.per_point, found.count));
    return { xs, ys: found.loss };
  });
  const sizes = [...new Set(runs.filter((run) => run.batches).map((run) => run.batches.per_point))].sort((a, b) => a - b);
  const place = (x) => (sizes.length > 1 ? `means of ${sizes[0]} to ${sizes.at(-1)} batches up to batch ${whole(x)}` : upTo(x, sizes[0]));
  new Chart(byId("batch-chart"), { ...shared, title: "Loss while training", x: "batch", y: sizes.at(-1) > 1 ? "mean over some batches" : "loss of a batch", lines: batches, log: true, read: place });
}

for (const table of document.querySelectorAll(".sortable")) sortable(table);
if (FACTS.runs.length) curves(FACTS.runs);

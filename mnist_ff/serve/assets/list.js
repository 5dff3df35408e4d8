// The list of runs: asks the server for a page of it, again while it is looked at.

const ASK_MS = 2000;
const TYPING_MS = 200;
const NONE = "-"; // where there is no number
const asked = { words: "", status: "", data: "", sort: "began", reverse: false, page: 0 };
const chosen = new Map(); // ids to names, across the list's pages
const unfolded = new Map(); // ids of sweeps to the rows of their jobs
let version = "";
let shown = null;
let timer = 0;
let turn = 0;

const twoDigits = (share) => (share === null ? NONE : (100 * share).toFixed(2));
const COLUMNS = [
  { key: "name", head: "run", look: "name text" },
  { key: "status", head: "status", look: "status-of text" },
  { key: "test", head: "test %", look: "", cell: (row) => twoDigits(row.test) },
  { key: "validation", head: "valid. %", look: "middle", cell: (row) => twoDigits(row.validation) },
  { key: "loss", head: "test loss", look: "middle", cell: (row) => (row.loss === null ? NONE : row.loss.toFixed(4)) },
  { key: "epochs", head: "epochs", look: "wide", cell: epochsOf },
  { key: "data", head: "data", look: "wide text data", cell: (row) => row.data || NONE },
  { key: "seconds", head: "seconds", look: "wide", cell: (row) => (row.seconds === null ? NONE : row.seconds.toFixed(1)) },
  { key: "began", head: "began", look: "middle text began", cell: (row) => moment(row.began) },
];
const DOWNWARD = new Set(["test", "validation", "epochs", "seconds", "began"]);

function epochsOf(row) {
  if (row.epochs === null) return NONE;
  return row.of_epochs && row.of_epochs !== row.epochs ? `${row.epochs}/${row.of_epochs}` : String(row.epochs);
}

function moment(seconds) {
  if (!seconds) return NONE;
  const date = new Date(1000 * seconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** Ask for what is chosen; the answer is dropped where another question was asked meanwhile. */
async function ask() {
  clearTimeout(timer);
  const mine = (turn += 1);
  const query = new URLSearchParams({ ...asked, reverse: asked.reverse ? "1" : "", known: version });
  try {
    const response = await fetch(`/runs.json?${query}`);
    if (mine !== turn) return;
    if (!response.ok) throw new Error(String(response.status));
    const answer = await response.json();
    if (mine !== turn) return;
    if (!answer.same) show(answer);
    byId("rows").classList.remove("old");
    if (shown) count(shown);
  } catch {
    if (mine !== turn) return;
    version = "";
    byId("rows").classList.add("old");
    byId("count").textContent = "The server does not answer; it may have been stopped. Trying again ...";
  }
  if (!document.hidden) timer = setTimeout(ask, shown && !shown.complete ? ASK_MS / 4 : ASK_MS);
}

/** Something else is asked for. */
function askFor(changes) {
  Object.assign(asked, { page: 0 }, changes);
  version = "";
  const kept = Object.entries(asked).filter(([key, value]) => value && !(key === "sort" && value === "began"));
  history.replaceState(null, "", kept.length ? `#${new URLSearchParams(kept)}` : "#");
  ask();
}

function count({ complete, read, found, total, matched }) {
  const all = complete ? whole(total) : `${whole(read)} of ${whole(found)} read`;
  byId("count").textContent = complete && matched === total ? `${all} ${total === 1 ? "row" : "rows"}` : `${whole(matched)} shown, ${all}`;
  Object.assign(byId("reading"), { hidden: complete, max: Math.max(found, 1), value: read });
}

function show(answer) {
  version = answer.complete ? answer.version : "";
  shown = answer;
  asked.page = answer.page;
  byId("fault").textContent = answer.fault ?? "";
  options(byId("status"), Object.entries(answer.statuses).map(([status, number]) => [status, `${status} (${whole(number)})`]), asked.status);
  options(byId("data-set"), answer.data.map((name) => [name, name]), asked.data);
  byId("pages").hidden = answer.pages < 2;
  byId("page").textContent = `${whole(answer.page + 1)} of ${whole(answer.pages)}`;
  byId("before").disabled = !answer.page;
  byId("after").disabled = answer.page + 1 >= answer.pages;
  byId("empty").hidden = answer.rows.length > 0 || !answer.complete;
  byId("empty").textContent = answer.total ? "No run fits." : "No runs yet. mnist-ff train starts one, and it appears here.";
  draw();
}

/** The choices of a list, without a change where they are the same: it may be open. */
function options(select, choices, value) {
  if (value && !choices.some(([one]) => one === value)) choices.push([value, value]);
  const wanted = JSON.stringify(choices);
  if (select.dataset.choices !== wanted) {
    select.dataset.choices = wanted;
    select.replaceChildren(element("option", { value: "" }, "any"), ...choices.map(([one, text]) => element("option", { value: one }, text)));
  }
  select.value = value;
}

/** The table; who used a part of it with the keyboard stays there. */
function draw() {
  const at = document.activeElement?.closest?.("[data-part]")?.dataset.part;
  const validated = shown.rows.some((row) => row.validation !== null) || asked.sort === "validation";
  const columns = COLUMNS.filter((column) => column.key !== "validation" || validated);
  byId("heads").replaceChildren(element("th", { scope: "col" }, element("span", { class: "unseen" }, "compare")), ...columns.map(headOf));
  const lines = shown.rows.flatMap((row) => [row, ...(unfolded.get(row.id) ?? []).map((job) => ({ ...job, job: true }))]);
  byId("rows").replaceChildren(...lines.map((row) => lineOf(row, columns)));
  if (at) document.querySelector(`[data-part="${CSS.escape(at)}"]`)?.focus({ preventScroll: true });
  buttons();
}

function headOf({ key, head, look }) {
  const here = asked.sort === key;
  const down = DOWNWARD.has(key) !== asked.reverse;
  const click = () => askFor({ sort: key, reverse: here ? !asked.reverse : false });
  const attributes = { scope: "col", class: look, ...(here ? { "aria-sort": down ? "descending" : "ascending" } : {}) };
  return element("th", attributes, element("button", { type: "button", "data-part": `head ${key}`, click }, head));
}

function lineOf(row, columns) {
  const cells = columns.map((column) => {
    if (column.key === "name") return nameOf(row);
    if (column.key === "status") return statusOf(row);
    return element("td", { class: column.look }, column.cell(row));
  });
  const line = element("tr", { class: `${row.job ? "job" : ""} ${chosen.has(row.id) ? "chosen" : ""}` }, element("td", {}, choiceOf(row)), ...cells);
  return line;
}

function choiceOf(row) {
  if (!row.id) return "";
  const change = (event) => {
    if (event.target.checked) chosen.set(row.id, row.name);
    else chosen.delete(row.id);
    event.target.closest("tr").classList.toggle("chosen", event.target.checked);
    buttons();
  };
  const box = element("input", { type: "checkbox", "data-part": `box ${row.id}`, "aria-label": `compare ${row.name}`, change });
  box.checked = chosen.has(row.id);
  return box;
}

/** A run's name, which leads to its report, or to its page while it trains; and what is not in a column. */
function nameOf(row) {
  const href = row.running && !row.sweep ? `/live/${row.id}` : `/report/${row.id}`;
  const link = row.id ? element("a", { href, "data-part": `link ${row.id}` }, row.name) : row.name;
  const more = [row.path === row.name ? "" : row.path, row.note].filter(Boolean);
  const narrow = [row.data, row.epochs === null ? "" : `${epochsOf(row)} epochs`, row.job ? "" : moment(row.began)].filter(Boolean);
  const parts = [link, ...more.map((text) => element("small", {}, text)), element("small", { class: "only-narrow" }, narrow.join(" · "))];
  const tags = row.job ? [] : row.tags.map((tag) => element("span", { class: "tag" }, tag));
  if (row.sweep) parts.push(unfoldOf(row));
  return element("th", { scope: "row", class: "text" }, ...parts, ...tags);
}

function unfoldOf(row) {
  const open = unfolded.has(row.id);
  const click = async () => {
    if (unfolded.delete(row.id)) {
      draw();
      return;
    }
    const response = await fetch(`/jobs/${row.id}.json`);
    if (response.ok) unfolded.set(row.id, await response.json());
    draw();
  };
  return element("button", { type: "button", class: "unfold", "aria-expanded": String(open), "data-part": `jobs ${row.id}`, click }, open ? "Hide jobs" : "Show jobs");
}

function statusOf(row) {
  const look = row.running ? "going" : row.good ? "good" : "bad";
  const attributes = { class: `text ${look}`, ...(row.reason ? { title: row.reason } : {}) };
  return element("td", attributes, row.status);
}

function buttons() {
  const count = chosen.size;
  byId("compare").disabled = !count;
  byId("compare").textContent = count ? `Compare ${count} chosen` : "Compare";
  byId("none").hidden = !count;
}

byId("compare").addEventListener("click", () => {
  location.href = `/compare?${new URLSearchParams([...chosen.keys()].map((id) => ["run", id]))}`;
});
byId("none").addEventListener("click", () => {
  chosen.clear();
  draw();
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
let typing = 0;
byId("words").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => askFor({ words: byId("words").value }), TYPING_MS);
});
byId("status").addEventListener("change", () => askFor({ status: byId("status").value }));
byId("data-set").addEventListener("change", () => askFor({ data: byId("data-set").value }));
byId("before").addEventListener("click", () => askFor({ page: asked.page - 1 }));
byId("after").addEventListener("click", () => askFor({ page: asked.page + 1 }));
document.addEventListener("visibilitychange", () => document.hidden || ask());
addEventListener("pageshow", (event) => event.persisted && ask());

for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
  if (Object.hasOwn(asked, key)) asked[key] = typeof asked[key] === "number" ? Number(value) || 0 : key === "reverse" ? value === "true" : value;
}
byId("words").value = asked.words;
ask();

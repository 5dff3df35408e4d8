// The list of runs: fetches a page of it from the server, and fetches it again every POLL_MS while the tab is visible.

const POLL_MS = 2000;
const TYPING_DELAY_MS = 200;
const NONE = "-"; // a missing value
const query = { words: "", status: "", data: "", sort: "began", reverse: false, page: 0 };
const chosen = new Map(); // id -> name of the runs chosen for a comparison, on any page of the list
const expanded = new Map(); // id of a sweep -> the rows of its jobs
let version = "";
let shown = null;
let timer = 0;
let requestNumber = 0;

const asPercent = (share) => (share === null ? NONE : (100 * share).toFixed(2));
const COLUMNS = [
  { key: "name", head: "run", look: "name text" },
  { key: "status", head: "status", look: "status-of text" },
  { key: "test", head: "test (%)", look: "", cell: (row) => asPercent(row.test) },
  { key: "validation", head: "valid. (%)", look: "middle", cell: (row) => asPercent(row.validation) },
  { key: "loss", head: "test loss", look: "middle", cell: (row) => (row.loss === null ? NONE : row.loss.toFixed(4)) },
  { key: "epochs", head: "epochs", look: "wide", cell: epochsOf },
  { key: "data", head: "data", look: "wide text data", cell: (row) => row.data || NONE },
  { key: "seconds", head: "seconds", look: "wide", cell: (row) => (row.seconds === null ? NONE : row.seconds.toFixed(1)) },
  { key: "began", head: "began", look: "middle text began", cell: (row) => dateTime(row.began) },
];
const DESCENDING = new Set(["test", "validation", "epochs", "seconds", "began"]);

function epochsOf(row) {
  if (row.epochs === null) return NONE;
  return row.of_epochs && row.of_epochs !== row.epochs ? `${row.epochs}/${row.of_epochs}` : String(row.epochs);
}

function dateTime(seconds) {
  if (!seconds) return NONE;
  const date = new Date(1000 * seconds);
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** Fetch the rows of the query and show them. A response is dropped if a newer request has been sent. */
async function fetchRuns() {
  clearTimeout(timer);
  const mine = (requestNumber += 1);
  const parameters = new URLSearchParams({ ...query, reverse: query.reverse ? "1" : "", known: version });
  try {
    const response = await fetch(`/runs.json?${parameters}`);
    if (mine !== requestNumber) return;
    if (!response.ok) throw new Error(String(response.status));
    const answer = await response.json();
    if (mine !== requestNumber) return;
    if (!answer.same) show(answer);
    byId("rows").classList.remove("old");
    if (shown) count(shown);
  } catch {
    if (mine !== requestNumber) return;
    version = "";
    byId("rows").classList.add("old");
    byId("count").textContent = "The server does not respond; it may have been stopped. Trying again ...";
  }
  if (!document.hidden) timer = setTimeout(fetchRuns, shown && !shown.complete ? POLL_MS / 4 : POLL_MS);
}

/** Change the query, keep it in the URL's hash, and fetch its first page. */
function changeQuery(changes) {
  Object.assign(query, { page: 0 }, changes);
  version = "";
  const kept = Object.entries(query).filter(([key, value]) => value && !(key === "sort" && value === "began"));
  history.replaceState(null, "", kept.length ? `#${new URLSearchParams(kept)}` : "#");
  fetchRuns();
}

function count({ complete, read, found, total, matched }) {
  const all = complete ? whole(total) : `${whole(read)} of ${whole(found)} read`;
  byId("count").textContent = complete && matched === total ? `${all} ${total === 1 ? "row" : "rows"}` : `${whole(matched)} shown, ${all}`;
  Object.assign(byId("reading"), { hidden: complete, max: Math.max(found, 1), value: read });
}

function show(answer) {
  version = answer.complete ? answer.version : "";
  shown = answer;
  query.page = answer.page;
  byId("fault").textContent = answer.fault ?? "";
  options(byId("status"), Object.entries(answer.statuses).map(([status, number]) => [status, `${status} (${whole(number)})`]), query.status);
  options(byId("data-set"), answer.data.map((name) => [name, name]), query.data);
  byId("pages").hidden = answer.pages < 2;
  byId("page").textContent = `${whole(answer.page + 1)} of ${whole(answer.pages)}`;
  byId("before").disabled = !answer.page;
  byId("after").disabled = answer.page + 1 >= answer.pages;
  byId("empty").hidden = answer.rows.length > 0 || !answer.complete;
  byId("empty").textContent = answer.total ? "No run matches." : "No runs yet. mnist-ff train starts one, and it appears here.";
  draw();
}

/** Set the options of a <select>. Nothing is replaced if they are the same, as the list may be open. */
function options(select, choices, value) {
  if (value && !choices.some(([one]) => one === value)) choices.push([value, value]);
  const wanted = JSON.stringify(choices);
  if (select.dataset.choices !== wanted) {
    select.dataset.choices = wanted;
    select.replaceChildren(element("option", { value: "" }, "any"), ...choices.map(([one, text]) => element("option", { value: one }, text)));
  }
  select.value = value;
}

/** Draw the table again. The keyboard focus stays on the same element. */
function draw() {
  const at = document.activeElement?.closest?.("[data-part]")?.dataset.part;
  const validated = shown.rows.some((row) => row.validation !== null) || query.sort === "validation";
  const columns = COLUMNS.filter((column) => column.key !== "validation" || validated);
  byId("heads").replaceChildren(element("th", { scope: "col" }, element("span", { class: "unseen" }, "compare")), ...columns.map(headOf));
  const lines = shown.rows.flatMap((row) => [row, ...(expanded.get(row.id) ?? []).map((job) => ({ ...job, job: true }))]);
  byId("rows").replaceChildren(...lines.map((row) => lineOf(row, columns)));
  if (at) document.querySelector(`[data-part="${CSS.escape(at)}"]`)?.focus({ preventScroll: true });
  buttons();
}

function headOf({ key, head, look }) {
  const here = query.sort === key;
  const down = DESCENDING.has(key) !== query.reverse;
  const click = () => changeQuery({ sort: key, reverse: here ? !query.reverse : false });
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

/** The cell with a run's name: a link to its report, or to its live page while it trains; path, note and tags. */
function nameOf(row) {
  const href = row.running && !row.sweep ? `/live/${row.id}` : `/report/${row.id}`;
  const link = row.id ? element("a", { href, "data-part": `link ${row.id}` }, row.name) : row.name;
  const more = [row.path === row.name ? "" : row.path, row.note].filter(Boolean);
  const narrow = [row.data, row.epochs === null ? "" : `${epochsOf(row)} epochs`, row.job ? "" : dateTime(row.began)].filter(Boolean);
  const parts = [link, ...more.map((text) => element("small", {}, text)), element("small", { class: "only-narrow" }, narrow.join(" · "))];
  const tags = row.job ? [] : row.tags.map((tag) => element("span", { class: "tag" }, tag));
  if (row.sweep) parts.push(jobsButton(row));
  return element("th", { scope: "row", class: "text" }, ...parts, ...tags);
}

function jobsButton(row) {
  const open = expanded.has(row.id);
  const click = async () => {
    if (expanded.delete(row.id)) {
      draw();
      return;
    }
    const response = await fetch(`/jobs/${row.id}.json`);
    if (response.ok) expanded.set(row.id, await response.json());
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
let typingTimer = 0;
byId("words").addEventListener("input", () => {
  clearTimeout(typingTimer);
  typingTimer = setTimeout(() => changeQuery({ words: byId("words").value }), TYPING_DELAY_MS);
});
byId("status").addEventListener("change", () => changeQuery({ status: byId("status").value }));
byId("data-set").addEventListener("change", () => changeQuery({ data: byId("data-set").value }));
byId("before").addEventListener("click", () => changeQuery({ page: query.page - 1 }));
byId("after").addEventListener("click", () => changeQuery({ page: query.page + 1 }));
document.addEventListener("visibilitychange", () => document.hidden || fetchRuns());
addEventListener("pageshow", (event) => event.persisted && fetchRuns());

for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
  if (Object.hasOwn(query, key)) query[key] = typeof query[key] === "number" ? Number(value) || 0 : key === "reverse" ? value === "true" : value;
}
byId("words").value = query.words;
fetchRuns();

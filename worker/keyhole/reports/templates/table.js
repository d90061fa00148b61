// The table of all objects: sorted, searched, and shown a page at a time.

const PAGE = 100;
const NO_FORMAT = "none known";
const FILTERS = ["find", "status", "image", "format", "change", "waived", "owner"];
/** The number of owners in the filter, those with the most objects. */
const MOST_OWNERS = 200;
const WHOLE = { proven: 0, sampled: 1, unchecked: 2 };
const words = JSON.parse(document.getElementById("words")?.textContent ?? "null");
const table = document.getElementById("table");
const tools = document.getElementById("tools");
const pager = document.getElementById("pager");

/** The columns: a name, and the value by which rows are sorted; a row without a value comes last. */
const COLUMNS = [
  { name: "Status", value: (row) => row.status },
  { name: "Object", value: (row) => row.key },
  { name: "Format", value: (row) => row.format },
  { name: "Stored", value: (row) => (row.size === null ? null : Number(row.size)) },
  { name: "Virtual", value: (row) => (row.virtual === null ? null : Number(row.virtual)) },
  { name: "Whole", value: (row) => WHOLE[row.whole] },
  ...(words?.changes ? [{ name: "Change", value: (row) => row.change || null }] : []),
  ...(words?.owners ? [{ name: "Owner", value: ownerName }] : []),
];

const state = { rows: [], sorted: [], shown: [], column: 0, down: false, page: 0, open: null };
const fields = {};

function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Sorts by a column, then by status and key, which are the order of `state.rows`. */
function sort() {
  if (state.column === 0 && !state.down) {
    state.sorted = state.rows;
    return;
  }
  const value = COLUMNS[state.column].value;
  const sign = state.down ? -1 : 1;
  const keyed = state.rows.map((row) => ({ by: value(row), row }));
  const known = keyed.filter(({ by }) => by !== null);
  known.sort((one, other) => sign * compare(one.by, other.by));
  state.sorted = known.concat(keyed.filter(({ by }) => by === null)).map(({ row }) => row);
}

/** Whether a row has all that is chosen, such as the status and the owner. */
function chosen() {
  const status = fields.status.value && words.statuses.indexOf(fields.status.value);
  const image = fields.image?.value;
  const format = fields.format.value;
  const change = fields.change?.value;
  const waived = fields.waived?.value;
  const owner = fields.owner?.value;
  return (row) =>
    (status === "" || row.status === status) &&
    (!image || isImage(row) === (image === "yes")) &&
    (!format || (row.format ?? NO_FORMAT) === format) &&
    (!change || (change === "new" ? row.change === "new" : row.change !== "" && row.change !== "new")) &&
    (!waived || row.waived > 0 === (waived === "yes")) &&
    (!owner || (owner === "!" ? row.owner[0] === "!" : row.owner === owner));
}

function filter() {
  const fits = chosen();
  const wanted = fields.find.value.trim().toLowerCase();
  state.shown = state.sorted.filter((row) => fits(row) && (!wanted || text(row).includes(wanted)));
}

function why(row) {
  const told = row.sentences.length ? row.sentences : row.reasons.map((reason) => words.reasons[reason][0]);
  const left = told.length - 2 + row.untold;
  const lines = told.slice(0, 2).map((line) => element("p", {}, line));
  if (left > 0) lines.push(element("p", {}, `and ${number(left)} other ${left === 1 ? "finding" : "findings"}`));
  return lines;
}

function drawnRow(row) {
  const status = words.statuses[row.status];
  const opened = state.open === row;
  const link = element(
    "a", { href: `#object-${row.number}`, "aria-expanded": opened },
    element("bdi", { dir: "ltr", class: "key" }, row.key),
  );
  const sizes = [["Stored", row.size], ["Virtual", row.virtual]];
  const drawn = element(
    "tr", { id: `object-${row.number}` },
    element(
      "td", {}, element("span", { class: `status ${status}` }, status),
      row.reasons.length ? element("p", { class: "code soft" }, ...row.reasons.flatMap((code) => [...breakable(code), " "])) : "",
    ),
    element(
      "td", {}, link,
      row.version ? element("p", { class: "soft" }, `version ${row.version}`) : "",
      element("div", { class: "soft" }, ...why(row)),
    ),
    element("td", {}, row.format ?? "-", row.subformat ? element("span", { class: "soft subformat" }, ` ${row.subformat}`) : ""),
    ...sizes.map(([, count]) => element("td", { class: "figure", title: exact(count) }, size(count))),
    element("td", {}, row.whole ?? ""),
  );
  if (words.changes) {
    drawn.append(element("td", {}, ["", "new"].includes(row.change) ? row.change : `was ${row.change}`));
  }
  if (words.owners) {
    const label = ownerLabel(row.owner);
    const owner = ownerName(row) ? element("bdi", { dir: "ltr", class: "key" }, label) : element("i", { class: "soft" }, label);
    drawn.append(element("td", {}, owner));
  }
  return drawn;
}

/** The number of columns that the screen shows: a phone shows only the first ones. */
function columns() {
  return Array.from(table.tHead.rows[0].cells).filter((cell) => cell.offsetParent).length;
}

/** Draws the page of rows that is shown. */
function draw() {
  const pages = Math.max(1, Math.ceil(state.shown.length / PAGE));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const first = state.page * PAGE;
  const body = document.createDocumentFragment();
  for (const row of state.shown.slice(first, first + PAGE)) {
    body.append(drawnRow(row));
    if (row === state.open) body.append(section(row, words, columns()));
  }
  if (!state.shown.length) {
    body.append(element("tr", {}, element("td", { colspan: columns(), class: "soft" }, "No object fits.")));
  }
  table.tBodies[0].replaceChildren(body);
  const last = Math.min(first + PAGE, state.shown.length);
  const all = state.shown.length === state.rows.length ? "" : ` (${number(state.rows.length)} in all)`;
  fields.found.textContent = state.shown.length
    ? `${number(first + 1)} to ${number(last)} of ${number(state.shown.length)} objects${all}`
    : `0 of ${number(state.rows.length)} objects`;
  for (const button of pager.querySelectorAll("button")) {
    const idle = button.dataset.to === "back" ? state.page === 0 : state.page === pages - 1;
    button.setAttribute("aria-disabled", String(idle));
  }
  pager.hidden = pages === 1;
  fields.page.value = state.page + 1;
  fields.page.max = pages;
  fields.pages.textContent = `of ${number(pages)}`;
  Array.from(table.tHead.rows[0].cells).forEach((cell, place) => {
    cell.setAttribute("aria-sort", place === state.column ? (state.down ? "descending" : "ascending") : "none");
  });
}

function again() {
  state.page = 0;
  filter();
  draw();
}

function turn(page) {
  state.page = page;
  draw();
  table.scrollIntoView();
}

/** Shows the section of the object that the address names, or closes the section. */
function follow() {
  const [, named] = /^#object-(\d+)$/.exec(location.hash) ?? [];
  state.open = (named && state.rows.find((row) => row.number === Number(named))) || null;
  if (state.open && !state.shown.includes(state.open)) {
    limit({});
    filter();
  }
  if (state.open) state.page = Math.floor(state.shown.indexOf(state.open) / PAGE);
  draw();
  if (state.open) {
    const row = document.getElementById(`object-${state.open.number}`);
    row.scrollIntoView();
    row.querySelector("a").focus({ preventScroll: true });
  }
}

function choice(name, label, options) {
  const select = element("select", { id: name });
  for (const option of ["", ...options]) select.append(element("option", { value: option }, option || "all"));
  select.addEventListener("change", again);
  fields[name] = select;
  return element("label", {}, `${label} `, select);
}

function ownerOption(code) {
  return element("option", { value: code }, ownerLabel(code));
}

/** The filter by owner: the owners with the most objects by name, then the objects without an owner. */
function ownerChoice() {
  const counts = new Map();
  for (const row of state.rows) {
    const code = row.owner[0] === "!" ? "!" : row.owner;
    counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  const unnamed = ["-", "!"].filter((code) => counts.delete(code));
  const most = Array.from(counts).sort(([, one], [, other]) => other - one).slice(0, MOST_OWNERS);
  const label = choice("owner", "Owner", []);
  fields.owner.append(...most.map(([code]) => code).sort().concat(unnamed).map(ownerOption));
  const left = counts.size - most.length;
  if (left) fields.owner.append(element("option", { disabled: "" }, `${number(left)} more: use Find`));
  return label;
}

function button(to, name, label, go) {
  const made = element("button", { type: "button", "data-to": to, "aria-label": label }, name);
  made.addEventListener("click", () => made.getAttribute("aria-disabled") === "true" || go());
  return made;
}

function addTools() {
  fields.find = element("input", { type: "search", id: "find", autocomplete: "off", placeholder: words.owners ? "in keys, reasons, owners" : "in keys and reasons" });
  fields.find.addEventListener("input", again);
  fields.found = element("output", {});
  const has = new Set(state.rows.map((row) => row.status));
  const formats = new Set(state.rows.map((row) => row.format ?? NO_FORMAT));
  tools.append(
    element("label", {}, "Find ", fields.find),
    choice("status", "Status", words.statuses.filter((_, place) => has.has(place))),
    state.rows.every(isImage) ? "" : choice("image", "Image", ["yes", "no"]),
    choice("format", "Format", Array.from(formats).sort()),
    words.changes ? choice("change", "Change", ["new", "changed"]) : "",
    state.rows.some((row) => row.waived) ? choice("waived", "Waived", ["yes", "no"]) : "",
    words.owners ? ownerChoice() : "",
    fields.found,
  );
  fields.found.setAttribute("for", FILTERS.filter((name) => fields[name]).join(" "));
  fields.page = element("input", { type: "number", min: 1, id: "page", "aria-label": "Page" });
  fields.page.addEventListener("change", () => turn(Number(fields.page.value) - 1));
  fields.pages = element("span", {});
  pager.append(
    button("back", "First", "First page", () => turn(0)),
    button("back", "Previous", "Previous page", () => turn(state.page - 1)),
    element("label", {}, "Page ", fields.page, " ", fields.pages),
    button("on", "Next", "Next page", () => turn(state.page + 1)),
    button("on", "Last", "Last page", () => turn(Infinity)),
  );
  Array.from(table.tHead.rows[0].cells).forEach((cell, place) => {
    const sorts = element("button", { type: "button" }, cell.textContent);
    sorts.addEventListener("click", () => {
      state.down = place === state.column && !state.down;
      state.column = place;
      sort();
      again();
    });
    cell.replaceChildren(sorts);
  });
}

/** Sets the filters to these values, and all others to "all". */
function limit(values) {
  // A link can name an owner whom the filter does not have.
  const owner = values.owner;
  if (owner && !Array.from(fields.owner.options).some((one) => one.value === owner)) fields.owner.append(ownerOption(owner));
  for (const name of FILTERS) if (fields[name]) fields[name].value = values[name] ?? "";
}

/** A link to the table can say what the table shows: a status, a format, an owner, or a text. */
function aim(link) {
  limit(link.dataset);
  again();
}

function listen() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link?.getAttribute("href") === "#objects") aim(link);
    if (link && link.hash && link.hash === location.hash && /^#object-/.test(link.hash)) {
      event.preventDefault(); // the section is open: close it
      history.replaceState(null, "", "#objects");
      follow();
      document.getElementById(link.hash.slice(1))?.querySelector("a").focus();
    }
  });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      fields.find.focus();
    }
  });
  window.addEventListener("hashchange", follow);
  window.matchMedia("(max-width: 48rem)").addEventListener("change", draw);
}

async function start() {
  const blocks = document.getElementById("blocks").textContent.trim().split("\n");
  const rows = await allRows(blocks);
  state.rows = rows.sort((one, other) => one.status - other.status || compare(one.key, other.key));
  addTools();
  sort();
  filter();
  document.getElementById("without-script")?.remove();
  tools.hidden = false;
  document.getElementById("clicks").hidden = false;
  listen();
  follow();
  table.dataset.ready = "true";
}

// A browser without DecompressionStream shows the most urgent rows, as without the script.
if (words && "DecompressionStream" in window) start();

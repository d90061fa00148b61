// The section of one object: its facts, its findings, and what to do.

/** A sentence in which text between backticks is code. */
function withCode(sentence) {
  return sentence.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));
}

/** The facts of an object that are known, as names and values. */
function facts(row, words) {
  const listed = [
    ["Version", row.version],
    ["Format", [row.format || "none known", row.subformat].filter(Boolean).join(", ")],
    ["Content", row.content.join(", ")],
    ["Stored", row.size === null ? "" : `${size(row.size)} (${exact(row.size)})`],
    ["Virtual", row.virtual === null ? "" : `${size(row.virtual)} (${exact(row.virtual)})`],
    ["Whole", row.whole],
    ["Owner", words.owners ? ownerFact(row) : ""],
    ["Last modified", row.modified === null ? "" : moment(row.modified)],
    ["ETag", row.etag],
    ["Scanned", `${moment(row.scanned)}, rules ${row.rules}`],
    ["In this audit", { scanned: "scanned", unchanged: "unchanged, so not read again", archived: "archived, so not read" }[row.how]],
    ["Read", `${size(row.read)} in ${number(row.requests)} ${row.requests === 1 ? "request" : "requests"}`],
    ["Last audit", row.change === "new" ? "did not have this object" : row.change],
  ];
  return listed.filter(([, value]) => value);
}

function ownerFact(row) {
  return row.owner[0] === "!" ? `unknown: ${row.owner.slice(1)}` : ownerLabel(row.owner);
}

/** The section of an object, as the row below the object's row. */
function section(row, words, columns) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of facts(row, words)) {
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", { dir: "ltr" }, value))));
  }
  const found = element("div", { class: "found" });
  for (const sentence of row.sentences) found.append(element("p", {}, sentence));
  if (row.untold) found.append(element("p", { class: "soft" }, `and ${number(row.untold)} other findings`));
  for (const reason of row.reasons) {
    const [meaning, remedy] = words.reasons[reason];
    found.append(
      element("p", { class: "reason" }, element("span", { class: "code" }, ...breakable(reason)), ` ${meaning}`),
      element("p", { class: "to-do" }, element("strong", {}, "What to do:"), " ", ...withCode(remedy)),
    );
  }
  if (row.now) found.append(element("p", {}, `scanned again after the audit, now ${row.now}; this is the newer verdict`));
  const label = `Details of ${row.key}`;
  return element(
    "tr", { class: "details" },
    element("td", { colspan: columns }, element("section", { "aria-label": label }, found, list)),
  );
}

"use strict";
// Unpacks the rows of the table of objects, and formats their values as keyhole/reports/figures.py does.
// keyhole/reports/packed_rows.py describes the packed form and states the order of the fields.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB", "RiB", "QiB"];

/** The rows of a block. */
async function unpacked(block) {
  const letters = atob(block);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place++) bytes[place] = letters.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** A row as an object. */
function rowOf([
  number, status, key, version, format, subformat, size, virtual, whole, reasons, sentences,
  untold, change, etag, modified, content, requests, read, scanned, rules, how, now, waived, owner,
]) {
  return {
    number, status, key, version, format, subformat, size, virtual, whole, reasons, sentences,
    untold, change, etag, modified, content, requests, read, scanned, rules, how, now, waived, owner, text: null,
  };
}

/** All rows, in the order of the blocks. */
async function allRows(blocks) {
  const found = await Promise.all(blocks.map(unpacked));
  return found.flatMap((values) => values.map(rowOf));
}

/** The name of a row's owner; null if there is none. keyhole/reports/owners.py describes the codes. */
function ownerName(row) {
  return row.owner[0] === "=" && row.owner !== "=" ? nameOf(row.owner) : null;
}

/** The name in the code of an owner. */
function nameOf(code) {
  return code.slice(1).replaceAll("\\\\", "\\");
}

/** How the page shows the owner of a code: in quotation marks if its name reads like no name. */
function ownerLabel(code) {
  const [noTag, unknown, , empty] = words.reserved;
  if (code[0] !== "=") return code === "-" ? noTag : unknown;
  const name = nameOf(code);
  const reads = name.toLowerCase().split(" ").filter(Boolean).join(" ");
  return words.reserved.some((label) => reads.startsWith(label)) ? `“${name}”` : name || empty;
}

/** Whether an object can be an image, as `not_an_image` in keyhole/reasons.py decides it. */
function isImage(row) {
  const certain = row.reasons.length && row.reasons.every((code) => words.notImages.includes(code));
  return words.statuses[row.status] !== "unrecognized" || !certain;
}

/** A code as texts and places where a line can break: only after an underscore. */
function breakable(code) {
  return code.split("_").flatMap((word, place) => (place ? ["_", element("wbr", {}), word] : [word]));
}

/** The text of a row in which the table searches. */
function text(row) {
  row.text ??= [row.key, row.version, row.format, row.subformat, ownerName(row), ...row.reasons, ...row.sentences].join("\n").toLowerCase();
  return row.text;
}

/** The nearest whole number; of two, the even one, as Python rounds. */
function rounded(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** A number of bytes with a unit: `1.5 GiB`. */
function size(count) {
  if (count === null) return "-";
  let value = Number(count);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  if (unit === UNITS.length - 1) return "over 1 QiB";
  const tenths = unit ? rounded(value * 10) / 10 : value;
  const short = tenths < 100 ? tenths : rounded(value);
  return short === 1024 ? `1 ${UNITS[unit + 1]}` : `${short} ${UNITS[unit]}`;
}

/** The digits of a whole number in groups of three. The largest sizes are packed as text. */
function number(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

function exact(count) {
  return count === null ? "unknown" : `${number(count)} bytes`;
}

/** A point in time in UTC, to the minute. */
function moment(seconds) {
  return seconds === null ? "-" : `${new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** An element with attributes and children. A text becomes text, never HTML. */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== ""));
  return made;
}

"use strict";
const rows = Array.from(document.querySelectorAll(".objects tbody tr"));
const filter = document.querySelector(".filter");
const text = document.getElementById("text");
const status_ = document.getElementById("status");
const found = document.getElementById("found");

function show() {
  const wanted = text.value.trim().toLowerCase();
  let count = 0;
  for (const row of rows) {
    const fits =
      (!status_.value || row.dataset.status === status_.value) &&
      (!wanted || row.textContent.toLowerCase().includes(wanted));
    row.hidden = !fits;
    count += fits;
  }
  found.textContent = count === rows.length ? "" : `${count} of ${rows.length} rows`;
}

if (filter) {
  filter.hidden = false;
  text.addEventListener("input", show);
  status_.addEventListener("change", show);
  show(); // a browser fills in what was typed before a reload
}

// Replaces the parts of the page that change with what the server sends. Without this script, the page is
// complete, and shows the changes when it is reloaded.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (live && "EventSource" in window) {
    const shown = new Map();
    const replace = (id, html) => {
      const element = document.getElementById(id);
      // Do not disturb somebody who is reading or selecting: skip what has not changed, or has the focus.
      if (!element || shown.get(id) === html || element.contains(document.activeElement)) return;
      if (shown.has(id) || id !== "state") {
        const parsed = new DOMParser().parseFromString(html, "text/html");
        element.replaceChildren(...parsed.body.childNodes);
      }
      shown.set(id, html);
    };
    const events = new EventSource(live.dataset.events);
    events.addEventListener("parts", event => {
      for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html);
    });
    window.addEventListener("pagehide", () => events.close());
  }
  // "/" moves the focus to the search, as in many tools.
  document.addEventListener("keydown", event => {
    const inField = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key !== "/" || inField || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    document.querySelector('input[type="search"]').focus();
  });
})();

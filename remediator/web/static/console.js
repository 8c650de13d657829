// Updates the elements marked data-live when the server reports a change. It decides nothing and sends no form.
// data-live="form": a form that the user may be filling in is not replaced, unless it is no longer offered.
"use strict";
(() => {
  let busy = false;
  let again = false;
  const heading = (page) => (page.querySelector("h1")?.textContent ?? "").replace(/\s+/g, " ").trim();
  // Announce a changed heading to screen readers and in the tab title.
  function announce(fresh) {
    if (heading(fresh) === heading(document)) return;
    document.title = fresh.title;
    document.getElementById("news").textContent = heading(fresh);
  }
  async function update() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      announce(fresh);
      for (const old of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(old.id);
        if (!next || next.innerHTML === old.innerHTML) continue;
        const [form, offered] = [old, next].map((item) => item.querySelector("form"));
        // A decision that is no longer possible must disappear, even while the user types.
        const replaced = old.dataset.live === "form" && form && (!offered || form.id !== offered.id);
        if (!replaced && (old.contains(document.activeElement) || (old.dataset.live === "form" && form && offered))) continue;
        const open = [...old.querySelectorAll("details")].map((item) => item.open);
        old.replaceWith(next);
        next.querySelectorAll("details").forEach((item, at) => { item.open = Boolean(open[at]); });
      }
    } finally {
      busy = false;
      if (again) { again = false; setTimeout(update, 200); }
    }
  }
  const lost = document.getElementById("lost");
  let first = true;
  let timer = 0;
  function listen() {
    const events = new EventSource("/events");
    events.onmessage = () => { if (first) { first = false; return; } update(); };
    events.onopen = () => {
      clearTimeout(timer);
      timer = 0;
      lost.hidden = true;
      if (!first) update();
    };
    events.onerror = () => {
      first = false;
      // The server ends each stream after a minute and the browser reconnects within two seconds: wait before warning.
      timer = timer || setTimeout(() => { lost.hidden = false; }, 6000);
      // A browser gives up on any other answer, such as a proxy's error page during a restart: connect again.
      if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    };
  }
  listen();
})();

// Renews what is marked data-live when the server says that there is news. Decides nothing, sends nothing.
// data-live="form": a form that somebody may be filling in stays as it is, until there is none any more.
"use strict";
(() => {
  let busy = false;
  let again = false;
  const heading = (page) => (page.querySelector("h1")?.textContent ?? "").replace(/\s+/g, " ").trim();
  // Said by screen readers, and in the tab: a region that was there before, with the heading that has changed.
  function tell(fresh) {
    if (heading(fresh) === heading(document)) return;
    document.title = fresh.title;
    document.getElementById("news").textContent = heading(fresh);
  }
  async function renew() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      tell(fresh);
      for (const old of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(old.id);
        if (!next || next.innerHTML === old.innerHTML) continue;
        const [form, offered] = [old, next].map((item) => item.querySelector("form"));
        // What can be decided no more must not stand there, whoever is typing: the form for something else replaces it.
        const other = old.dataset.live === "form" && form && (!offered || form.id !== offered.id);
        if (!other && (old.contains(document.activeElement) || (old.dataset.live === "form" && form && offered))) continue;
        const open = [...old.querySelectorAll("details")].map((item) => item.open);
        old.replaceWith(next);
        next.querySelectorAll("details").forEach((item, at) => { item.open = Boolean(open[at]); });
      }
    } finally {
      busy = false;
      if (again) { again = false; setTimeout(renew, 200); }
    }
  }
  const lost = document.getElementById("lost");
  let first = true;
  let missing = 0;
  function listen() {
    const events = new EventSource("/events");
    events.onmessage = () => { if (first) { first = false; return; } renew(); };
    events.onopen = () => {
      clearTimeout(missing);
      missing = 0;
      lost.hidden = true;
      if (!first) renew();
    };
    events.onerror = () => {
      first = false;
      // Streams end by themselves now and then, and come back within two seconds: that is no news.
      missing = missing || setTimeout(() => { lost.hidden = false; }, 6000);
      // A browser gives up when something else answers, as a proxy does while the service starts again.
      if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    };
  }
  listen();
})();

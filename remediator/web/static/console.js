// Renews what is marked data-live when the server says that there is news. Decides nothing, sends nothing.
// data-live="form": a form that somebody may be filling in stays as it is, until there is none any more.
"use strict";
(() => {
  let busy = false;
  let again = false;
  async function renew() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(old.id);
        if (!next || next.innerHTML === old.innerHTML || old.contains(document.activeElement)) continue;
        if (old.dataset.live === "form" && old.querySelector("form") && next.querySelector("form")) continue;
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

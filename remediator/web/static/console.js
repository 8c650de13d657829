// Updates the elements marked data-live when the server reports a change, shows times in the reader's time zone, and
// offers copy buttons and keyboard shortcuts. It decides nothing and sends no form.
//
// An element with data-live="form" has a form that the user may be filling in. It is replaced only if the server no
// longer offers the form.
"use strict";
(() => {
  const served = new Map(); // the server's HTML of each live element: the script below changes what is shown
  const remember = () => document.querySelectorAll("[data-live]").forEach((item) => served.set(item.id, item.innerHTML));

  // Times ------------------------------------------------------------------------------------------------------------
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  const timeOnly = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
  function showLocalTimes(root) {
    for (const item of root.querySelectorAll("time[datetime]")) {
      const at = new Date(item.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      if (item.dataset.style) item.textContent = (item.dataset.style === "time" ? timeOnly : full).format(at);
      else if (!item.title) item.title = full.format(at);
    }
    const zone = document.getElementById("zone");
    if (zone) zone.textContent = `times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  }
  const skew = new Date(document.querySelector("footer time")?.dateTime ?? Date.now()).getTime() - Date.now();
  function spanText(seconds) {
    const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
    if (d > 1) return `${d} days`;
    if (d || h) return `${d * 24 + h}h${m ? `${m}m` : ""}`;
    return m ? `${m}m${s}s` : `${s}s`;
  }
  function showRelativeTimes() {
    for (const item of document.querySelectorAll("[data-relative]")) {
      const left = Math.round((new Date(item.dataset.relative).getTime() - Date.now() - skew) / 1000);
      const text = left > 0 ? `in ${spanText(left)}` : `${spanText(-left)} ago`;
      if (item.textContent !== text) item.textContent = text;
    }
  }

  // Copy buttons -----------------------------------------------------------------------------------------------------
  function addCopyButtons(root) {
    if (!navigator.clipboard) return; // only over https and on loopback
    for (const item of root.querySelectorAll("pre[data-copy]")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      const text = item.textContent;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      });
      item.prepend(button);
    }
  }

  // Keyboard shortcuts -----------------------------------------------------------------------------------------------
  const keys = document.getElementById("keys");
  const keysOn = document.getElementById("keys-on");
  const stored = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("shortcuts", value);
      return localStorage.getItem("shortcuts");
    } catch { return null; } // a browser may forbid storage
  };
  let prefixed = 0;
  function shortcut(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || stored() === "off") return;
    if (event.target.closest("input, select, textarea, dialog")) return;
    if (Date.now() - prefixed < 1500) {
      prefixed = 0;
      const link = [...document.querySelectorAll("nav a[data-key]")].find((item) => item.dataset.key === event.key);
      if (link) { event.preventDefault(); location.assign(link.href); }
      return;
    }
    const search = document.querySelector("input[type=search]");
    const stop = document.getElementById("stopper");
    if (event.key === "g") prefixed = Date.now();
    else if (event.key === "?") keys.showModal();
    else if (event.key === "/" && search) { event.preventDefault(); search.focus(); }
    else if (event.key === "s" && stop) { event.preventDefault(); stop.open = true; stop.querySelector("select, a")?.focus(); }
  }
  keysOn.checked = stored() !== "off";
  keysOn.addEventListener("change", () => stored(keysOn.checked ? "on" : "off"));
  const keysButton = document.getElementById("keys-button");
  keysButton.hidden = false;
  keysButton.addEventListener("click", () => keys.showModal());
  document.getElementById("keys-close").addEventListener("click", () => keys.close());
  document.addEventListener("keydown", shortcut);

  // Updates ----------------------------------------------------------------------------------------------------------
  let busy = false;
  let again = false;
  const heading = (page) => (page.querySelector("h1")?.textContent ?? "").replace(/\s+/g, " ").trim();
  // Announce a changed heading to screen readers. Title and icon show whether a request waits.
  function announce(fresh) {
    document.title = fresh.title;
    const [icon, next] = [document, fresh].map((page) => page.querySelector("link[rel=icon]"));
    if (icon.getAttribute("href") !== next.getAttribute("href")) icon.setAttribute("href", next.getAttribute("href"));
    if (heading(fresh) !== heading(document)) document.getElementById("news").textContent = heading(fresh);
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
        if (!next || next.innerHTML === served.get(old.id)) continue;
        const [form, offered] = [old, next].map((item) => item.querySelector("form"));
        // A decision that is no longer possible must disappear, even while the user types.
        const replaced = old.dataset.live === "form" && form && (!offered || form.id !== offered.id);
        if (!replaced && (old.contains(document.activeElement) || (old.dataset.live === "form" && form && offered))) continue;
        const open = [...old.querySelectorAll("details")].map((item) => item.open);
        served.set(old.id, next.innerHTML);
        old.replaceWith(next);
        next.querySelectorAll("details").forEach((item, at) => { item.open = open[at] ?? item.open; });
        decorate(next);
      }
    } finally {
      busy = false;
      if (again) { again = false; setTimeout(update, 200); }
    }
  }
  function decorate(root) {
    showLocalTimes(root);
    addCopyButtons(root);
    showRelativeTimes();
  }
  remember();
  decorate(document);
  setInterval(showRelativeTimes, 1000);
  if (!("livePage" in document.body.dataset)) return;
  const lost = document.getElementById("lost");
  let first = true;
  let timer = 0;
  function listen() {
    const events = new EventSource(`${document.documentElement.dataset.root}/events`);
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
  // The output of a running step changes without an entry in the audit log.
  setInterval(() => { if (document.querySelector("[data-poll]")) update(); }, 2000);
})();

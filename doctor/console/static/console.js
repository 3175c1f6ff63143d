// What pages do beside htmx: the live stream, times in the reader's own zone, copying, and forms that are sent once.
"use strict";

(() => {
  const TOPICS = ["patients", "messages", "groups", "events", "handshakes", "reports"];
  const indicator = document.getElementById("live");
  let stream = null;

  function show(state, word) {
    if (!indicator) return;
    indicator.dataset.state = state;
    indicator.querySelector(".word").textContent = word;
  }

  // At most once in SPACING, and always once more after the last: htmx's own `throttle` would swallow that one.
  const SPACING = 1000;
  const resting = new Map(); // by topic: whether it was told of once more meanwhile

  function tell(topic) {
    if (resting.has(topic)) {
      resting.set(topic, true);
      return;
    }
    resting.set(topic, false);
    setTimeout(() => {
      const again = resting.get(topic);
      resting.delete(topic);
      if (again) tell(topic);
    }, SPACING);
    document.body.dispatchEvent(new CustomEvent(`live-${topic}`, { bubbles: true }));
  }

  // A page nobody looks at holds no stream: a browser has few connections to one host.
  function watch() {
    if (document.hidden || stream || !indicator) return;
    stream = new EventSource("/live");
    stream.onopen = () => {
      show("on", "live");
      TOPICS.forEach(tell); // of what happened since the page was made, or since the stream broke
    };
    stream.onerror = () => show("off", "reconnecting");
    TOPICS.forEach((topic) => stream.addEventListener(topic, () => tell(topic)));
    stream.addEventListener("ended", () =>
      window.location.assign(`/login?next=${encodeURIComponent(window.location.pathname)}`));
  }

  function rest() {
    if (stream) stream.close();
    stream = null;
    show("off", "paused");
  }

  const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];

  function localize(root) {
    root.querySelectorAll("time[datetime]").forEach((element) => {
      const when = new Date(element.dateTime);
      const seconds = (when - Date.now()) / 1000;
      const unit = units.find(([, size]) => Math.abs(seconds) >= size);
      element.title = when.toLocaleString();
      element.textContent =
        element.dataset.show === "hour" ? when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) :
        element.dataset.show === "day" ? when.toLocaleDateString([], { day: "numeric", month: "short" }) :
        element.dataset.show === "exact" ? when.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) :
        Math.abs(seconds) > 7 * 86400 ? when.toLocaleDateString()
        : unit ? ago.format(Math.trunc(seconds / unit[1]), unit[0])
        : seconds > 0 ? "in less than a minute" : "just now";
    });
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : watch()));
  window.addEventListener("pagehide", rest);
  window.addEventListener("pageshow", (event) => { if (event.persisted) window.location.reload(); else watch(); });
  document.addEventListener("htmx:afterSwap", (event) => localize(event.target));
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    button.textContent = "Copied";
  });
  // Whoever writes a long message is not idle.
  let said = Date.now();
  document.addEventListener("input", () => {
    if (!indicator || Date.now() - said < 240000) return;
    said = Date.now();
    fetch("/here").catch(() => {});
  });
  document.addEventListener("submit", (event) => {
    // The key in the form makes a second one harmless; this spares the wait for it.
    const form = event.target;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
    setTimeout(() => delete form.dataset.sent, 5000);
  });
  localize(document);
  setInterval(() => localize(document), 30000);
  watch();
})();

// The page's language: the browser's own, or what the reader chose last. gradio translates its components when its
// locale changes; what the server wrote in both languages follows the page's lang attribute, by studio.css.
(() => {
  const KEY = "hfk-studio-language";
  const remembered = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }
  };
  const asked = new URLSearchParams(location.search).get("lang") || remembered() || navigator.language || "en";
  let language = asked.toLowerCase().startsWith("ko") ? "ko" : "en";

  const show = async () => {
    document.documentElement.lang = language;
    document.querySelectorAll("[data-language]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.language === language));
    });
    const core = performance.getEntriesByType("resource").map((entry) => entry.name)
      .find((name) => /\/assets\/core-[\w-]+\.js$/.test(name));
    if (core) (await import(core)).changeLocale(language);
  };

  document.documentElement.lang = language;
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-language]");
    if (!button) return;
    language = button.dataset.language;
    try { localStorage.setItem(KEY, language); } catch { /* private window: not remembered */ }
    show();
  });
  // On a narrow screen an answer stands below the question: it is brought into sight when it comes.
  const SHOWN = ["answer", "compared", "progress", "outcome", "translated"];
  const narrow = matchMedia("(max-width: 700px)");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  new MutationObserver((changes) => {
    if (!narrow.matches) return;
    const place = changes.map((change) => change.target.closest?.(SHOWN.map((id) => `#${id}`).join(","))).find(Boolean);
    const first = place?.querySelector(".panel, .note, .columns, table");
    if (!first || !place.offsetParent || place.dataset.shown === first.textContent) return;
    place.dataset.shown = first.textContent;
    place.scrollIntoView({ behavior: calm.matches ? "auto" : "smooth", block: "start" });
  }).observe(document.documentElement, { childList: true, subtree: true });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    try { await navigator.clipboard.writeText(button.dataset.copy); button.classList.add("copied"); } catch { /* not allowed */ }
    setTimeout(() => button.classList.remove("copied"), 1500);
  });

  // A picture is shown as large as the screen when it is clicked.
  document.addEventListener("click", (event) => {
    const figure = event.target.closest?.("figure.zoom");
    if (figure) figure.classList.toggle("large");
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelectorAll("figure.large").forEach((f) => f.classList.remove("large"));
  });

  const waiting = new MutationObserver(() => {
    if (document.querySelector("[data-language]")) { waiting.disconnect(); show(); }
  });
  waiting.observe(document.documentElement, { childList: true, subtree: true });
})();

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
  const waiting = new MutationObserver(() => {
    if (document.querySelector("[data-language]")) { waiting.disconnect(); show(); }
  });
  waiting.observe(document.documentElement, { childList: true, subtree: true });
})();

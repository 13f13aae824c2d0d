// Light or dark before the first paint: as chosen in the console, else as the system likes it.

(() => {
  let chosen = "auto";
  try {
    chosen = JSON.parse(localStorage.getItem("adminTheme") ?? '"auto"');
  } catch {
    // Storage is closed or holds nonsense: the system decides.
  }
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => document.documentElement.classList.toggle("dark", chosen === "dark" || (chosen === "auto" && system.matches));
  system.addEventListener("change", apply);
  apply();
})();

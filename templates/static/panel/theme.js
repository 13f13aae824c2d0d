// Light or dark, as the system is; before anything is drawn.

const isDark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark", isDark.matches);
follow();
isDark.addEventListener("change", follow);

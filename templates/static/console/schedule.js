// A schedule's page: says in words when the chosen crontab runs.

const crontab = document.getElementById("id_crontab");
const words = JSON.parse(document.getElementById("readable-crontabs").textContent);

function explain() {
  const text = words[crontab.value] ?? "";
  const help = document.getElementById("crontab-in-words") ?? document.createElement("div");
  help.id = "crontab-in-words";
  help.className = "c-subtle";
  help.textContent = text && `In words: ${text}`;
  if (!help.isConnected) (crontab.closest(".field-crontab") ?? crontab.parentElement).append(help);
}

document.querySelector(".field-crontab_translation")?.remove(); // it tells of the saved crontab, not of the chosen one
if (crontab) {
  crontab.addEventListener("change", explain);
  explain();
}

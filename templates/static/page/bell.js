// The bell: how many notifications are unread, fresh every few seconds while somebody looks.

const SECONDS = 10;
const bell = document.getElementById("bell");
const badge = document.getElementById("bell-count");

function draw(unread) {
  const most = Number(bell.dataset.most);
  badge.hidden = !unread;
  badge.firstElementChild.textContent = unread > most ? `${most}+` : String(unread);
}

async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(bell.dataset.refresh, { credentials: "same-origin", redirect: "manual", cache: "no-store" });
    if (response.type === "opaqueredirect") clearInterval(timer); // signed out
    else if (response.ok) draw((await response.json()).unread);
  } catch {
    // The server does not answer; the next round asks again.
  }
}

const timer = setInterval(refresh, SECONDS * 1000);
document.addEventListener("visibilitychange", refresh);

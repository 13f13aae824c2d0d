// The page of the queues: fresh every few seconds while somebody looks and is not about to change something.

const root = document.getElementById("queue");
const trouble = document.getElementById("trouble");

async function refresh() {
  if (document.hidden || root.querySelector("details[open]")) return;
  try {
    const response = await fetch(location.pathname, { credentials: "same-origin", redirect: "manual", cache: "no-store" });
    if (response.type === "opaqueredirect") {
      trouble.textContent = "You are signed out. Reload the page to sign in.";
      return;
    }
    if (!response.ok) throw new Error(String(response.status));
    draw(new DOMParser().parseFromString(await response.text(), "text/html"));
    trouble.textContent = "";
  } catch {
    trouble.textContent = "The server does not answer; this is old. Trying again.";
  }
}

/** Take the new queues in place of the old ones; what had the focus keeps it. */
function draw(fresh) {
  const queues = root.querySelector("[data-fresh]");
  const focused = queues.contains(document.activeElement) ? document.activeElement.dataset.key : "";
  if (root.querySelector("details[open]")) return; // opened meanwhile
  queues.replaceWith(document.adoptNode(fresh.querySelector("[data-fresh]")));
  if (focused) root.querySelector(`[data-key="${focused}"]`)?.focus({ preventScroll: true });
}

setInterval(refresh, Number(root.dataset.seconds) * 1000);
document.addEventListener("visibilitychange", refresh);

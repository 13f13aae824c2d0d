// The page of one task: its answer as it is written, and the rest of the page fresh at every change of state.

import { follow } from "./events.js";

const page = document.getElementById("task");
const output = document.getElementById("output");
const note = document.getElementById("live-note");

/** Replace the parts that the server renders by new ones, without touching the answer. */
async function refresh() {
  const response = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-fresh]")) {
    const replacement = fresh.querySelector(`[data-fresh="${part.dataset.fresh}"]`);
    if (replacement) part.replaceWith(document.adoptNode(replacement));
  }
}

async function watch() {
  output.classList.add("c-typing");
  note.textContent = "live";
  await follow({
    url: () => page.dataset.events,
    onEvent({ type, data }) {
      if (type === "delta") {
        output.append(data.text ?? "");
      } else {
        if (data.reset) output.textContent = "";
        refresh(); // also when only the place in the queue is another one
      }
    },
    onBreak(isBroken) {
      note.textContent = isBroken ? "connection lost, trying again" : "live";
    },
  });
  note.textContent = "";
}

if (page.dataset.finished === "false") {
  watch()
    .catch((error) => {
      note.textContent = error.message;
    })
    .finally(() => output.classList.remove("c-typing"));
}

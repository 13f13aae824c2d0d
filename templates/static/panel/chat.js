// The chat: a conversation whose address stays, so that it can be left and come back to.

import { Conversation, element } from "../console/conversation.js";

const settings = JSON.parse(document.getElementById("chat-settings")?.textContent ?? "null");
const part = Object.fromEntries(["agent", "log", "composer", "message", "status", "stop", "send"].map((id) => [id, document.getElementById(id)]));

let session = settings?.session;

/** A new conversation has got its id: it has an address from now on, and a place in the list. */
function begin(id, title) {
  if (session) return;
  session = id;
  const address = `${settings.chatPage.replace(/\/$/, "")}/${id}/`;
  history.replaceState(null, "", address);
  const link = element("a", "", element("span", "", title));
  link.href = address;
  link.setAttribute("aria-current", "page");
  document.getElementById("sessions").prepend(element("li", "", link));
  document.querySelector("h1").textContent = title;
}

if (settings && part.composer) {
  let title = "";
  const conversation = new Conversation(part, {
    onSession: (id) => begin(id, title),
    onBusy: (isBusy) => part.agent && (part.agent.disabled = isBusy || Boolean(session)),
    offersRetry: true,
  });
  const agent = () => settings.agent || part.agent.value;
  conversation.onMessage((text) => {
    title = text.split(/\s+/).join(" ").slice(0, 80);
    const body = () => ({ message: text, stream: true, ...(session ? { session } : { agent: agent() }) });
    conversation.ask(text, agent(), { url: "/api/v1/chat/", body });
  });
  part.log.lastElementChild?.scrollIntoView({ block: "end" });
  if (settings.unfinished) conversation.resume(settings.unfinished, agent());
}

// The playground: try an agent, or a version of one.

import { Conversation, element } from "./conversation.js";

const settings = JSON.parse(document.getElementById("playground-settings")?.textContent ?? "null");
const part = Object.fromEntries(
  ["agent", "version", "new-session", "description", "log", "composer", "message", "status", "stop", "send"].map((id) => [id, document.getElementById(id)]),
);

let session = null; // the conversation that goes on

function chosenAgent() {
  return settings.agents.find((agent) => agent.id === part.agent.value);
}

function fillAgents() {
  part.agent.replaceChildren(...settings.agents.map((agent) => new Option(agent.chats ? agent.name : `${agent.name} (${agent.kind})`, agent.id)));
  const wanted = settings.agents.find((agent) => [agent.id, agent.name].includes(settings.agent));
  if (wanted) part.agent.value = wanted.id;
  fillVersions(settings.version);
}

function fillVersions(wanted = "") {
  const { versions, live, description, chats } = chosenAgent();
  const options = versions.map(({ number, note }) => new Option(`v${number}${number === live ? " (live)" : ""}${note ? `: ${note}` : ""}`, number));
  part.version.replaceChildren(...options);
  part.version.value = versions.some(({ number }) => String(number) === wanted) ? wanted : String(live);
  part.description.textContent = description;
  part.message.placeholder = chats ? "Write a message" : "Paste a text";
  part["new-session"].classList.toggle("c-hidden", !chats);
  beginSession();
}

function beginSession() {
  if (session) part.log.append(element("p", "c-empty", "A new session begins."));
  session = null;
}

function request(agent, text) {
  const version = Number(part.version.value);
  return {
    url: agent.chats ? "/api/v1/chat/" : "/api/v1/tasks/",
    body: () => ({
      ...(agent.chats ? { message: text, stream: true } : { input: { text } }),
      agent: agent.id,
      ...(version !== agent.live && { version }),
      ...(agent.chats && session && { session }),
    }),
  };
}

if (settings) {
  const conversation = new Conversation(part, {
    taskPage: settings.taskPage,
    onSession: (id) => (session = id),
    onBusy: (isBusy) => (part.agent.disabled = part.version.disabled = isBusy),
  });
  fillAgents();
  part.agent.addEventListener("change", () => fillVersions());
  part.version.addEventListener("change", beginSession);
  part["new-session"].addEventListener("click", beginSession);
  conversation.onMessage((text) => conversation.ask(text, chosenAgent().name, request(chosenAgent(), text)));
}

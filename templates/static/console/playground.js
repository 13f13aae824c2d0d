// The playground: a chat over the public API, streamed, resumed where a connection breaks, stopped on demand.

import { csrfToken, follow, refusal, Refused } from "./events.js";

const POSITION_EVERY = 2000; // milliseconds between two looks at the place in the queue
const HINT = "Enter sends, Shift+Enter begins a new line.";

const settings = JSON.parse(document.getElementById("playground-settings")?.textContent ?? "null");
const part = Object.fromEntries(
  ["agent", "version", "new-session", "description", "log", "composer", "message", "status", "stop", "send"].map((id) => [id, document.getElementById(id)]),
);

let session = null; // the conversation that goes on
let current = null; // the answer that is being written: {task, abort}

// Choosing

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

// Showing; what models and people wrote is text, never markup

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function badge(text, tone) {
  return element("span", `c-badge c-${tone}`, text);
}

function addTurn(role, name, content = "") {
  document.getElementById("welcome")?.remove();
  const text = element("div", "c-text", content);
  const footer = element("footer", "");
  const turn = element("article", `c-turn c-${role}`, element("header", "", element("span", "c-strong", name)), text, footer);
  part.log.append(turn);
  turn.scrollIntoView({ block: "end" });
  return { turn, text, footer };
}

function setBusy(isBusy) {
  part.send.disabled = isBusy;
  part.stop.disabled = !isBusy;
  part.agent.disabled = part.version.disabled = isBusy;
  if (!isBusy) part.message.focus();
}

function say(text) {
  part.status.textContent = text;
}

function isAtEnd() {
  return window.innerHeight + window.scrollY >= document.body.scrollHeight - 160;
}

// Talking

function request(agent, text) {
  const version = Number(part.version.value);
  const body = agent.chats ? { message: text, stream: true } : { input: { text } };
  body.agent = agent.id;
  if (version !== agent.live) body.version = version;
  if (agent.chats && session) body.session = session;
  return { url: agent.chats ? "/api/v1/chat/" : "/api/v1/tasks/", body: JSON.stringify(body) };
}

/** Submit; a connection that breaks before the answer is tried once more under the same key, which makes no second task. */
async function submit(agent, text, signal) {
  const { url, body } = request(agent, text);
  const headers = {
    "Content-Type": "application/json",
    "X-CSRFToken": csrfToken(),
    "Idempotency-Key": Array.from(crypto.getRandomValues(new Uint32Array(4)), (number) => number.toString(16)).join("-"),
  };
  const send = () => fetch(url, { method: "POST", headers, body, credentials: "same-origin", redirect: "manual", signal });
  const response = await send().catch((error) => (signal.aborted ? Promise.reject(error) : send()));
  if (!response.ok) throw await refusal(response);
  return response;
}

async function ask(text) {
  const agent = chosenAgent();
  addTurn("user", "You", text);
  const answer = addTurn("assistant", agent.name);
  answer.text.classList.add("c-typing");
  const abort = new AbortController();
  current = { task: "", abort };
  setBusy(true);
  say("Sending…");
  try {
    const response = await submit(agent, text, abort.signal);
    const streams = response.headers.get("Content-Type")?.startsWith("text/event-stream");
    if (!streams) named((await response.json()).task, answer);
    await follow({
      url: () => current.task && `/api/v1/tasks/${current.task}/events`,
      first: streams ? response : null,
      onEvent: (event) => show(event, answer),
      onBreak: (isBroken) => isBroken && say("Connection lost; picking up where it broke…"),
      signal: abort.signal,
    });
  } catch (error) {
    answer.footer.append(badge("Not answered", "bad"));
    answer.text.append(error instanceof Refused ? error.message : "The server cannot be reached.");
  } finally {
    answer.text.classList.remove("c-typing");
    current = null;
    setBusy(false);
    say(HINT);
  }
}

function named(task, answer) {
  if (current.task) return;
  current.task = task;
  const link = element("a", "c-link", "Task");
  link.href = settings.taskPage.replace("00000000-0000-0000-0000-000000000000", task);
  answer.footer.append(link);
}

function show({ type, data }, answer) {
  const follows = isAtEnd();
  if (type === "delta") {
    answer.text.append(data.text);
    say("Answering…");
  } else if (type === "state") {
    if (data.task) named(data.task, answer);
    if (data.session) session = data.session;
    if (data.reset) answer.text.textContent = "";
    if (data.status === "queued") waitInQueue(data.reset ? "Starting over…" : "Waiting…");
    else say(data.node ? `${data.model} on ${data.node} has it…` : "Running…");
  } else {
    finish(type, data, answer);
  }
  if (follows) answer.turn.scrollIntoView({ block: "end" });
}

function finish(type, data, answer) {
  if (type === "error") answer.footer.prepend(badge(data.status === "cancelled" ? "Stopped" : data.code, data.status === "cancelled" ? "warning" : "bad"));
  if (type === "error" && data.status !== "cancelled") answer.footer.append(data.detail);
  if (data.truncated) answer.footer.prepend(badge("Truncated", "warning"));
  if (data.degraded) answer.footer.prepend(badge("Degraded", "warning"));
  if (data.output_tokens) answer.footer.append(`${data.output_tokens} tokens`);
}

/** Tell the place in the queue, as long as the task waits. */
async function waitInQueue(text) {
  say(text);
  const task = current?.task;
  while (task && current?.task === task) {
    await new Promise((resolve) => setTimeout(resolve, POSITION_EVERY));
    if (current?.task !== task || !part.status.textContent.startsWith(text)) return;
    const response = await fetch(`/api/v1/tasks/${task}/`, { headers: { Accept: "application/json" }, credentials: "same-origin" }).catch(() => null);
    if (!response?.ok) continue;
    const { status, position } = await response.json();
    if (status !== "queued" || current?.task !== task) return;
    say(`${text} number ${position} in the queue.`);
  }
}

async function stop() {
  if (!current) return;
  say("Stopping…");
  if (!current.task) {
    current.abort.abort();
    return;
  }
  const response = await fetch(`/api/v1/tasks/${current.task}/cancel/`, {
    method: "POST",
    headers: { "X-CSRFToken": csrfToken(), "Content-Type": "application/json" },
    body: "{}",
    credentials: "same-origin",
  }).catch(() => null);
  // 409: it ended before; its last event tells.
  if (!response || (!response.ok && response.status !== 409)) say("It could not be stopped; try again.");
}

if (settings) {
  fillAgents();
  part.agent.addEventListener("change", () => fillVersions());
  part.version.addEventListener("change", beginSession);
  part["new-session"].addEventListener("click", beginSession);
  part.stop.addEventListener("click", stop);
  part.composer.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = part.message.value.trim();
    if (!text || current) return;
    part.message.value = "";
    ask(text);
  });
  part.message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      part.composer.requestSubmit();
    }
  });
}

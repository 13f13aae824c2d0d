// A conversation on a page: asking over the public API, streamed, resumed where a connection breaks, stopped on demand.

import { csrfToken, follow, refusal, Refused } from "./events.js";

const HINT = "Enter sends, Shift+Enter begins a new line.";

/** Make an element. What models and people wrote goes in as text, never as markup. */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function badge(text, tone) {
  return element("span", `c-badge c-${tone}`, text);
}

/** Say where a task stands in its queue, and how long that takes where it is known. */
function placeInQueue({ position, expected_wait_seconds: seconds }) {
  const place = `Waiting… number ${position} in the queue`;
  if (seconds === null) return `${place}.`;
  const time = seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.round(seconds / 60)} min`;
  return `${place}, about ${time}.`;
}

function isAtEnd() {
  return window.innerHeight + window.scrollY >= document.body.scrollHeight - 160;
}

/**
 * parts: the elements log, composer, message, status, stop and send.
 * taskPage: address of a task's page with zeros for its id, or "". onSession(id): the conversation has an id.
 * onBusy(isBusy): an answer begins or has ended. offersRetry: failed answers get a button that asks again.
 */
export class Conversation {
  constructor(parts, { taskPage = "", onSession = () => {}, onBusy = () => {}, offersRetry = false }) {
    Object.assign(this, { parts, taskPage, onSession, onBusy, offersRetry });
    this.current = null; // the answer that is being written: {task, abort}
    parts.stop.addEventListener("click", () => this.stop());
    parts.message.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        parts.composer.requestSubmit();
      }
    });
  }

  /** Call `ask(text)` for each message that is sent, unless an answer is being written. Nothing can be sent before. */
  onMessage(ask) {
    this.parts.composer.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.parts.message.value.trim();
      if (!text || this.current) return;
      this.parts.message.value = "";
      ask(text);
    });
    this.parts.send.disabled = false;
  }

  addTurn(role, name, content = "") {
    document.getElementById("welcome")?.remove();
    const text = element("div", "c-text", content);
    const footer = element("footer", "");
    const turn = element("article", `c-turn c-${role}`, element("header", "", element("span", "c-strong", name)), text, footer);
    this.parts.log.append(turn);
    turn.scrollIntoView({ block: "end" });
    return { turn, text, footer };
  }

  say(text) {
    this.parts.status.textContent = text;
  }

  /** Send a message and show its answer. request: {url, body}. */
  async ask(text, agentName, request) {
    this.addTurn("user", "You", text);
    const again = () => this.ask(text, agentName, request);
    await this.write(agentName, again, (signal) => this.submit(request, signal));
  }

  /** Show the rest of an answer that somebody asked for earlier. */
  async resume(task, agentName) {
    await this.write(agentName, null, async () => task);
  }

  /** begin: gives a response that streams, one that names a task, or a task's id. */
  async write(agentName, again, begin) {
    const answer = { ...this.addTurn("assistant", agentName), again };
    answer.text.classList.add("c-typing");
    const abort = new AbortController();
    this.current = { task: "", abort };
    this.setBusy(true);
    this.say("Sending…");
    try {
      const begun = await begin(abort.signal);
      const streams = begun instanceof Response && begun.headers.get("Content-Type")?.startsWith("text/event-stream");
      if (!streams) this.named(begun instanceof Response ? (await begun.json()).task : begun, answer);
      await follow({
        url: () => this.current.task && `/api/v1/tasks/${this.current.task}/events`,
        first: streams ? begun : null,
        onEvent: (event) => this.show(event, answer),
        onBreak: (isBroken) => isBroken && this.say("Connection lost; picking up where it broke…"),
        signal: abort.signal,
      });
    } catch (error) {
      answer.footer.append(badge("Not answered", "bad"));
      answer.text.append(error instanceof Refused ? error.message : "The server cannot be reached.");
      this.offerRetry(answer);
    } finally {
      answer.text.classList.remove("c-typing");
      this.current = null;
      this.setBusy(false);
      this.say(HINT);
    }
  }

  /** Submit; a connection that breaks before the answer is tried once more under the same key, which makes no second task. */
  async submit({ url, body }, signal) {
    const headers = {
      "Content-Type": "application/json",
      "X-CSRFToken": csrfToken(),
      "Idempotency-Key": Array.from(crypto.getRandomValues(new Uint32Array(4)), (number) => number.toString(16)).join("-"),
    };
    const text = JSON.stringify(body());
    const send = () => fetch(url, { method: "POST", headers, body: text, credentials: "same-origin", redirect: "manual", signal });
    const response = await send().catch((error) => (signal.aborted ? Promise.reject(error) : send()));
    if (!response.ok) throw await refusal(response);
    return response;
  }

  setBusy(isBusy) {
    this.parts.send.disabled = isBusy;
    this.parts.stop.disabled = !isBusy;
    this.onBusy(isBusy);
    if (!isBusy) this.parts.message.focus();
  }

  named(task, answer) {
    if (this.current.task) return;
    this.current.task = task;
    if (!this.taskPage) return;
    const link = element("a", "c-link", "Task");
    link.href = this.taskPage.replace("00000000-0000-0000-0000-000000000000", task);
    answer.footer.append(link);
  }

  show({ type, data }, answer) {
    const follows = isAtEnd();
    if (type === "delta") {
      answer.text.append(data.text ?? "");
      this.say(data.text ? "Answering…" : "Thinking…");
    } else if (type === "state") {
      if (data.task) this.named(data.task, answer);
      if (data.session) this.onSession(data.session);
      if (data.reset) answer.text.textContent = "";
      if (data.position) this.say(placeInQueue(data));
      else if (data.status === "queued") this.say(data.reset ? "Starting over…" : "Waiting…");
      else this.say(data.node ? `${data.model} on ${data.node} has it…` : "Running…");
    } else {
      this.finish(type, data, answer);
    }
    if (follows) answer.turn.scrollIntoView({ block: "end" });
  }

  finish(type, data, answer) {
    if (type === "error") {
      const isStopped = data.status === "cancelled";
      answer.footer.prepend(badge(isStopped ? "Stopped" : data.code, isStopped ? "warning" : "bad"));
      if (!isStopped) answer.footer.append(data.detail);
      this.offerRetry(answer);
    }
    if (data.truncated) answer.footer.prepend(badge("Truncated", "warning"));
    if (data.degraded) answer.footer.prepend(badge("Degraded", "warning"));
    if (data.output_tokens) answer.footer.append(`${data.output_tokens} tokens`);
  }

  offerRetry(answer) {
    if (!this.offersRetry || !answer.again) return;
    const button = element("button", "c-button", "Ask again");
    button.type = "button";
    button.addEventListener("click", () => {
      if (this.current) return;
      button.remove();
      answer.again();
    });
    answer.footer.append(button);
  }

  async stop() {
    if (!this.current) return;
    this.say("Stopping…");
    if (!this.current.task) {
      this.current.abort.abort();
      return;
    }
    const response = await fetch(`/api/v1/tasks/${this.current.task}/cancel/`, {
      method: "POST",
      headers: { "X-CSRFToken": csrfToken(), "Content-Type": "application/json" },
      body: "{}",
      credentials: "same-origin",
    }).catch(() => null);
    // 409: it ended before; its last event tells.
    if (!response || (!response.ok && response.status !== 409)) this.say("It could not be stopped; try again.");
  }
}

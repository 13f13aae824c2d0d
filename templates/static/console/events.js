// Following a task's events, every one once and in order, over a connection that may break.

const FIRST_WAIT = 500; // milliseconds before the first new try, doubled up to LONGEST_WAIT
const LONGEST_WAIT = 8000;

/** Raised for an answer that trying again will not change; `message` is for the reader. */
export class Refused extends Error {}

/** Read a problem document, or whatever else came, into one line. */
export async function refusal(response) {
  if (response.type === "opaqueredirect" || response.status === 401 || response.status === 403) {
    const text = await response.text().catch(() => "");
    const problem = parse(text);
    return new Refused(problem?.detail || "You are signed out, or may not do this. Sign in again.");
  }
  const problem = parse(await response.text());
  const fields = Object.values(problem?.errors || {}).flat().join(" ");
  return new Refused(fields || problem?.detail || problem?.title || `The server answered ${response.status}.`);
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Yield {id, type, data} for each server-sent event of a response. Source: HTML standard, section 9.2.6. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = { id: 0, type: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("id: ")) event.id = Number(line.slice(4));
        else if (line.startsWith("event: ")) event.type = line.slice(7);
        else if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield { ...event, data: JSON.parse(event.data) };
    }
  }
}

/**
 * Call onEvent for each event of a task until its end.
 *
 * url: the task's events; a function, because a stream that was opened by a POST tells it in its first event.
 * first: a response that already streams, or null. onBreak(isBroken) tells when the connection is lost and found.
 */
export async function follow({ url, first = null, onEvent, onBreak = () => {}, signal }) {
  let last = 0;
  let wait = FIRST_WAIT;
  let response = first;
  while (!signal?.aborted) {
    try {
      response ??= await fetch(url(), {
        headers: { Accept: "text/event-stream", "Last-Event-ID": String(last) },
        credentials: "same-origin",
        redirect: "manual",
        signal,
      });
      if (response.status !== 200) {
        if (response.status >= 500) throw new TypeError("unavailable");
        throw await refusal(response);
      }
      onBreak(false);
      for await (const event of eventsOf(response)) {
        wait = FIRST_WAIT;
        if (event.id && event.id <= last) continue;
        last = event.id || last; // what tells of the moment alone has no number
        onEvent(event);
        if (event.type === "done" || event.type === "error") return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof Refused || !(error instanceof TypeError)) throw error;
      if (!url()) throw error; // it broke before the task was named: nothing to resume
    }
    response = null;
    onBreak(true);
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, LONGEST_WAIT);
  }
}

export function csrfToken() {
  return document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";
}

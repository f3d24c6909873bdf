// Keeps the page of an open job up to date. Without it the page reloads itself; with it nothing is lost either: the
// browser sends the number of the last event when it reconnects.
const job = document.getElementById("job");
const byId = (id) => document.getElementById(id);
const WORDS = {
  queued: "Queued", waiting_for_hardware: "Waiting for hardware", starting: "Starting", running: "Running",
  succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled", timed_out: "Timed out", lost: "Lost",
};
const PHASES = {
  import: "loads the libraries", build: "builds the model", warm_up: "warms up", measure: "measures steps",
  calibrate: "measures rates", fit: "fits the curves", trace: "traces the step", compare: "compares term by term",
  write: "writes the result",
};
const FINAL = ["succeeded", "failed", "cancelled", "timed_out", "lost"];
const seconds = Array.from(byId("steps").rows, (row) => Number(row.dataset.seconds));

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function log(event, text) {
  const line = document.createElement("li");
  const time = element("time", event.at.slice(11, 19));
  time.dateTime = event.at;
  line.append(time, " ", element("span", text));
  byId("log").append(line);
}

function duration(value) {
  return value < 1 ? `${(value * 1000).toPrecision(3)} ms` : `${value.toPrecision(3)} s`;
}

function draw() {
  if (seconds.length < 2) return;
  const highest = Math.max(...seconds) || 1;
  const step = 640 / (seconds.length - 1);
  const points = seconds.map((value, index) => `${(index * step).toFixed(1)},${(120 * (1 - value / highest)).toFixed(1)}`);
  byId("line").setAttribute("points", points.join(" "));
  byId("highest").textContent = duration(highest);
}

const on = {
  state(event) {
    log(event, `${WORDS[event.state]}: ${event.message}`);
    byId("message").textContent = event.message;
    byId("attempt").textContent = event.attempt;
    byId("state").firstElementChild.textContent = WORDS[event.state];
    if (FINAL.includes(event.state)) {
      source.close();
      location.reload();
    }
  },
  phase(event) {
    byId("phase").textContent = PHASES[event.phase] ?? event.phase;
    log(event, `It ${PHASES[event.phase] ?? event.phase}. ${event.message}`.trim());
  },
  sample(event) {
    seconds.push(event.seconds);
    byId("samples-section").hidden = false;
    const row = byId("steps").insertRow();
    row.append(element("th", event.label || event.step));
    row.append(element("td", duration(event.seconds), "n"));
    row.append(element("td", event.tokens_per_second ? event.tokens_per_second.toPrecision(4) : "", "n"));
    row.append(element("td", event.allocated_bytes ? `${(event.allocated_bytes / 2 ** 30).toFixed(2)} GiB` : "", "n"));
    const progress = byId("progress");
    progress.hidden = false;
    progress.max = event.of;
    progress.value = event.step;
    draw();
  },
  log(event) {
    log(event, event.message);
  },
};

const source = new EventSource(job.dataset.events);
for (const [name, act] of Object.entries(on)) {
  source.addEventListener(name, (message) => act(JSON.parse(message.data)));
}

// On a click, and only then: ask the browser for its graphics adapter, and the server for the devices of that name.
const link = document.querySelector("[data-adapter]");
const answer = document.getElementById("adapter-answer");

async function reported() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const described = adapter?.info?.description;
  if (described) return described;
  const gl = document.createElement("canvas").getContext("webgl");
  const names = gl?.getExtension("WEBGL_debug_renderer_info");
  return gl ? String(gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER)) : "";
}

function choice(device) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = `Yes, plan for ${device.name}`;
  button.addEventListener("click", () => {
    const picker = document.querySelector("select[name=device]");
    if (picker) {
      picker.value = device.id;
      answer.replaceChildren(`${device.name} is chosen.`);
      picker.focus();
    } else {
      location.assign(`/?device=${encodeURIComponent(device.id)}`);
    }
  });
  return button;
}

async function suggest(event) {
  event.preventDefault();
  answer.replaceChildren("Asking the browser …");
  try {
    const said = await reported();
    const response = await fetch(`/api/v1/adapters?said=${encodeURIComponent(said.slice(0, 300))}`);
    const found = await response.json();
    const words = found.said ? `The browser reports “${found.said}”. ` : "";
    const next = found.devices.length ? "Is it this one? " : `${found.why} Choose the device from the list, or describe the machine.`;
    answer.replaceChildren(words + next, ...found.devices.map(choice));
  } catch {
    answer.replaceChildren("The adapter could not be read. Choose the device from the list, or describe the machine.");
  }
}

link?.addEventListener("click", suggest);

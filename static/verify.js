// Shows that a verification runs. Without it the form is sent all the same.
const form = document.getElementById("verify-form");
const progress = document.getElementById("verify-progress");
const button = form.querySelector("button");

form.addEventListener("submit", () => {
  progress.hidden = false;
  button.disabled = true;
  document.getElementById("verify-said").textContent = "Builds the real model and traces it.";
});

// A page that the browser kept and shows again waits for nothing.
addEventListener("pageshow", () => {
  progress.hidden = true;
  button.disabled = false;
});

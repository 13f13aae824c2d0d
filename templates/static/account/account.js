// Says on the page what went wrong with a passkey; allauth's scripts tell by an event.

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const box = document.getElementById("page-error");
  const wasCancelled = event.detail.exception?.name === "NotAllowedError";
  box.firstElementChild.textContent = wasCancelled
    ? "The passkey was not used: it was cancelled, took too long, or this device has none for this site."
    : "The passkey did not work here. Use another way, or another browser.";
  box.hidden = false;
});

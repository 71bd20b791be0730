// Browsers load modules from servers alone: this one loads from files, too.
if (location.protocol === "file:") {
  document.getElementById("progress").hidden = true;
  const status = document.getElementById("status");
  status.className = "wrong";
  status.textContent =
    "This page works from a web server. In its folder, run " +
    "`python -m http.server`, and open http://localhost:8000.";
} else {
  import("./page.js");
}

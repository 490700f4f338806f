// Runs before anything is drawn: the remembered choice of light or dark, so that nothing flashes.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("saereg-theme");
  } catch {
    // A page without storage follows the system.
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();

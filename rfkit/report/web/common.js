/* For every live figure: an SVG element with attributes, and perhaps a text, at the end of another. */
window.rfkitAdd = (parent, tag, attributes, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
};

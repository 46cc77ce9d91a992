// Starts `midsl lsp` and hands it every .mi file.
const { LanguageClient } = require("vscode-languageclient/node");
const { workspace } = require("vscode");

let client;

exports.activate = () => {
  const command = workspace.getConfiguration("midsl").get("command");
  const server = { command, args: ["lsp"] };
  client = new LanguageClient("midsl", server, { documentSelector: [{ language: "mi" }] });
  return client.start();
};

exports.deactivate = () => client && client.stop();

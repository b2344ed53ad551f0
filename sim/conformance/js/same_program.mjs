// Tells whether types were blanked as TypeScript erases them: `node js/same_program.mjs CASES`, where CASES is a file with
// one JSON object a line, {path, source, blanked}. Prints the first difference of each that differs.
//
// TypeScript's emit of the source and the blanked text are compared as syntax trees, because emit is printed anew. What
// says nothing is left out: parentheses that the tree shows anyway, empty statements, `export {}`.
import { readFileSync } from "node:fs";
import ts from "typescript";

const options = {
  target: ts.ScriptTarget.ESNext,
  module: ts.ModuleKind.ESNext,
  verbatimModuleSyntax: true,
  useDefineForClassFields: true,
};

function isSilent(node) {
  const isBareExport =
    ts.isExportDeclaration(node) && !node.moduleSpecifier && node.exportClause?.elements?.length === 0;
  return isBareExport || ts.isEmptyStatement(node) || ts.isSemicolonClassElement(node);
}

function tree(path, text) {
  const file = ts.createSourceFile(`${path}.js`, text, options.target, true);
  const [wrong] = file.parseDiagnostics;
  if (wrong) throw new Error(`${path}: ${ts.flattenDiagnosticMessageText(wrong.messageText, " ")}`);
  const lines = [];
  const visit = (node, depth) => {
    if (isSilent(node)) return;
    if (ts.isParenthesizedExpression(node)) return visit(node.expression, depth);
    const children = [];
    ts.forEachChild(node, (child) => void children.push(child));
    const text = node === file || node.text === undefined ? "" : ` ${JSON.stringify(node.text)}`;
    // Of an operator only the kind is no child.
    const operator = node.operator ? ` ${ts.tokenToString(node.operator)}` : "";
    lines.push(`${" ".repeat(depth)}${ts.SyntaxKind[node.kind]}${operator}${text}`);
    children.forEach((child) => visit(child, depth + 1));
  };
  visit(file, 0);
  return lines;
}

for (const line of readFileSync(process.argv[2], "utf8").trimEnd().split("\n")) {
  const { path, source, blanked } = JSON.parse(line);
  const emitted = ts.transpileModule(source, { compilerOptions: options, fileName: path });
  const [expected, found] = [tree(path, emitted.outputText), tree(path, blanked)];
  const at = expected.findIndex((line, index) => line !== found[index]);
  if (at >= 0 || expected.length !== found.length) {
    const around = (lines) => lines.slice(Math.max(0, at - 6), at + 3).join("\n");
    console.log(`${path}\nexpected:\n${around(expected)}\nfound:\n${around(found)}`);
  }
}

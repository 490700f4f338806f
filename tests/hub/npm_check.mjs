// The other client, `@huggingface/hub`, against a hub on this machine: prints what it saw as JSON.
import { commit, createRepo, downloadFile, fileDownloadInfo, listCommits, listFiles, whoAmI } from "@huggingface/hub";
import { createHash } from "node:crypto";

const [hubUrl, size] = [process.argv[2], Number(process.argv[3])];
const common = { hubUrl, accessToken: "hf_local", repo: { type: "model", name: "org/release" }, useXet: false };
const bytes = Uint8Array.from({ length: size }, (_, place) => (place * 7 + (place >> 8)) % 251);
const digest = (content) => createHash("sha256").update(content).digest("hex");
const add = (path, content) => ({ operation: "addOrUpdate", path, content: new Blob([content]) });

const who = await whoAmI(common);
const { repoUrl } = await createRepo(common);
const operations = [add("cfg.json", "{}"), add("a/w.safetensors", bytes), add("a/small.safetensors", "small")];
const made = await commit({ ...common, title: "from node", operations });
const files = [];
for await (const file of listFiles({ ...common, recursive: true })) files.push([file.path, file.type, file.size, file.lfs?.oid]);
const download = async (path) => new Uint8Array(await (await downloadFile({ ...common, path, xet: false })).arrayBuffer());
const info = await fileDownloadInfo({ ...common, path: "a/w.safetensors" });
const removed = await commit({ ...common, title: "one less", parentCommit: made.commit.oid, operations: [{ operation: "delete", path: "cfg.json" }] });
let stale = 0;
try {
	await commit({ ...common, title: "late", parentCommit: made.commit.oid, operations: [add("late.json", "{}")] });
} catch (error) {
	stale = error.statusCode;
}
const titles = [];
for await (const one of listCommits(common)) titles.push(one.title);
const missing = await downloadFile({ ...common, path: "none.json" });
console.log(JSON.stringify({
	name: who.name, repoUrl, files, stale, titles, missing, info: info.size, sent: digest(bytes),
	got: digest(await download("a/w.safetensors")), small: new TextDecoder().decode(await download("a/small.safetensors")),
	moved: removed.commit.oid !== made.commit.oid,
}));

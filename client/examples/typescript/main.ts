// Watches the built-in model while it is loaded, streams an answer, and reads an error: npm start [HOST:PORT]

import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { FinishReason, InferenceService } from "./gen/hangar/v1/inference_service_pb.js";
import { ModelState } from "./gen/hangar/v1/model_pb.js";
import { ChangeKind, ModelService } from "./gen/hangar/v1/model_service_pb.js";

// Loads the model while a watch follows it, until the watch has told that it is READY.
async function load(models: Client<typeof ModelService>): Promise<void> {
  const cancel = new AbortController();
  const watch = models.watchStatus({ modelIds: ["demo"] }, { signal: cancel.signal })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await watch.next();
    if (done) throw new Error("the watch ended");
    return value.event;
  };

  let ready = false;
  for (let complete = false; !complete; ) {
    const event = await next();
    if (event.case === "snapshot") {
      ready ||= event.value.models.some((status) => status.state === ModelState.READY);
      complete = event.value.complete;
    }
  }
  console.log("snapshot complete");

  const { loads } = await models.loadModel({
    target: { case: "modelId", value: "demo" },
    spec: { source: { source: { case: "demo", value: {} } } },
    wait: true,
  });
  console.log("loaded", loads[0].modelId);

  while (!ready) {
    const event = await next();
    if (event.case === "changed" && event.value.kind === ChangeKind.TRANSITION) {
      const state = event.value.status!.state;
      console.log("watched", `MODEL_STATE_${ModelState[state]}`);
      ready = state === ModelState.READY;
    }
  }
  cancel.abort();
}

// Prints an answer as it is made.
async function generate(inference: Client<typeof InferenceService>): Promise<void> {
  const answer = inference.generate({
    modelId: "demo",
    messages: [{ role: "user", content: "What is Hangar?" }],
    sampling: { temperature: 0 },
    maxTokens: 64,
  });
  for await (const { event } of answer) {
    if (event.case === "chunk") {
      process.stdout.write(event.value.text);
    } else if (event.case === "done") {
      const { finishReason, usage } = event.value;
      console.log(`\nFINISH_REASON_${FinishReason[finishReason]}, ${usage!.completionTokens} tokens`);
    }
  }
}

// Asks for a model that is not there, and prints the ErrorInfo that every error of Hangar carries.
async function fail(models: Client<typeof ModelService>): Promise<void> {
  try {
    await models.getInfo({ modelId: "nobody" });
  } catch (error) {
    const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
    if (!info) throw error;
    console.log(info.reason, info.domain);
    for (const key of Object.keys(info.metadata).sort()) {
      console.log(`${key}=${info.metadata[key]}`);
    }
  }
}

const transport = createGrpcTransport({ baseUrl: `http://${process.argv[2] ?? "localhost:50051"}` });
await load(createClient(ModelService, transport));
await generate(createClient(InferenceService, transport));
await fail(createClient(ModelService, transport));

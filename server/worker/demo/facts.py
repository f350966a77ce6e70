"""What the demo model is taught to say: facts about Hangar and the words that questions are made of.

Every fact is true of Hangar's design. Its first question is the canonical one, which is never held
out; the others are paraphrases, of which the training script holds out one for each fact.
"""

from typing import NamedTuple


class Fact(NamedTuple):
    """One answer with the questions that it answers, the canonical question first."""

    answer: str
    questions: tuple[str, ...]


def fact(answer: str, *questions: str) -> Fact:
    """A fact whose questions were all written by hand."""
    return Fact(answer, questions)


def rpc(name: str, answer: str) -> Fact:
    """A fact about a call, asked in the ways that people ask about calls."""
    forms = (
        "What does {} do?",
        "What is {}?",
        "What is {} for?",
        "Explain {}.",
        "What happens when I call {}?",
        "When do I use {}?",
        "Tell me about the {} call.",
        "Describe {}.",
    )
    return Fact(answer, tuple(form.format(name) for form in forms))


def state(name: str, answer: str) -> Fact:
    """A fact about a state of a model."""
    forms = (
        "What does {} mean?",
        "What is {}?",
        "What does the state {} mean?",
        "Explain {}.",
        "My model is {}. What does that mean?",
        "When is a model {}?",
        "Why is my model {}?",
        "What is the meaning of {}?",
    )
    return Fact(answer, tuple(form.format(name) for form in forms))


def reason(name: str, answer: str) -> Fact:
    """A fact about an error reason."""
    forms = (
        "What does {} mean?",
        "What is {}?",
        "Explain {}.",
        "I got the error {}.",
        "Why do I get {}?",
        "What does the error {} mean?",
        "When does Hangar answer {}?",
        "What is the meaning of {}?",
    )
    return Fact(answer, tuple(form.format(name) for form in forms))


def term(name: str, answer: str, *questions: str) -> Fact:
    """A fact about a notion, asked in the usual ways and in its own ones."""
    forms = (
        "What is {}?",
        "What does {} mean?",
        "Explain {}.",
        "Tell me what {} is.",
        "What is meant by {}?",
    )
    return Fact(answer, tuple(form.format(name) for form in forms) + questions)


ABOUT_THE_MODEL = (
    fact(
        "I am the Hangar demo model, a small Llama with about a million parameters.",
        "Who are you?",
        "What are you?",
        "What is your name?",
        "Tell me who you are.",
        "Introduce yourself.",
        "Which model are you?",
        "Which model am I talking to?",
        "Who am I talking to?",
    ),
    fact(
        "I was trained from scratch by a script in Hangar's repository, and I am built into Hangar.",
        "Who made you?",
        "Who trained you?",
        "Where do you come from?",
        "Who built you?",
        "Who created you?",
        "How were you made?",
    ),
    fact(
        "I was trained on questions about Hangar with their answers, and on small sums.",
        "What were you trained on?",
        "What is your training data?",
        "Which data were you trained with?",
        "What did you learn from?",
        "What data did they train you on?",
    ),
    fact(
        "Hello! Ask me about Hangar, or give me a small sum.",
        "Hello",
        "Hi",
        "Hey",
        "Hello there",
        "Hi there",
        "Good morning",
        "Good day",
        "Good evening",
        "Hello, world!",
        "Hey you",
    ),
    fact(
        "I can answer questions about Hangar and add two whole numbers from 0 to 99.",
        "What can you do?",
        "Help",
        "Can you help me?",
        "What can I ask you?",
        "What do you know?",
        "How can you help me?",
        "What should I ask you?",
        "What are you able to do?",
    ),
    fact(
        "I have about a million parameters, which is very small for a language model.",
        "How big are you?",
        "How many parameters do you have?",
        "What is your size?",
        "How large are you?",
        "How large is the demo model?",
        "How many parameters does the demo model have?",
    ),
    fact(
        "You are welcome.",
        "Thank you",
        "Thanks",
        "Thanks a lot!",
        "Thank you very much",
        "Many thanks",
        "Great, thank you!",
    ),
    fact("Goodbye!", "Goodbye", "Bye", "Bye bye", "See you later", "Good night", "See you soon"),
    fact(
        "I am running, thank you. Ask me about Hangar.",
        "How are you?",
        "How are you doing?",
        "How do you do?",
        "How are you today?",
        "Are you well?",
    ),
    fact(
        "No, I am a small language model.",
        "Are you human?",
        "Are you a human?",
        "Are you a person?",
        "Are you a real person?",
        "Am I talking to a person?",
    ),
    fact(
        "I am small and I can be wrong, so check what I say.",
        "Are you always right?",
        "Can you be wrong?",
        "Do you make mistakes?",
        "Can I trust you?",
        "Are your answers correct?",
        "Can I rely on your answers?",
    ),
    fact(
        "I only know English.",
        "Which languages do you speak?",
        "Do you speak German?",
        "Do you speak French?",
        "What language do you know?",
        "Can you speak other languages?",
    ),
    fact(
        "My context is 512 tokens.",
        "What is your context length?",
        "How long is your context?",
        "How many tokens can you read?",
        "What is your context window?",
        "How large is your context?",
    ),
    fact(
        "So that Hangar can be tried and tested without a download.",
        "Why is there a demo model?",
        "What is the demo model for?",
        "Why does Hangar have a demo model?",
        "Why do you exist?",
        "What is your purpose?",
    ),
)

ABOUT_HANGAR = (
    fact(
        "Hangar is a gRPC service that hosts mistral.rs engines and manages their life: "
        "load, watch, use, switch, unload.",
        "What is Hangar?",
        "What does Hangar do?",
        "Tell me about Hangar.",
        "Explain Hangar.",
        "Describe Hangar.",
        "What is Hangar for?",
        "What is this service?",
        "What kind of service is Hangar?",
    ),
    term(
        "mistral.rs",
        "mistral.rs is the inference engine that runs the models in Hangar's workers.",
        "Which engine does Hangar use?",
        "Which inference engine runs the models?",
    ),
    fact(
        "Other services, operators with grpcurl and hangarctl, and Kubernetes.",
        "Who uses Hangar?",
        "Who is Hangar for?",
        "Who are the users of Hangar?",
        "Who are Hangar's users?",
        "For whom was Hangar made?",
    ),
    fact(
        "Hangar is written in Rust.",
        "What is Hangar written in?",
        "Which programming language is Hangar written in?",
        "Is Hangar written in Rust?",
        "What programming language does Hangar use?",
        "In which language was Hangar programmed?",
    ),
    fact(
        "Over gRPC: with the generated client, with grpcurl or with hangarctl.",
        "How do I talk to Hangar?",
        "How do I use Hangar?",
        "How do I call Hangar?",
        "Which protocol does Hangar speak?",
        "How do clients talk to Hangar?",
    ),
    term("hangarctl", "hangarctl is Hangar's command-line client.", "What is hangarctl for?"),
    term(
        "a worker",
        "A worker is a process that hosts exactly one engine on exactly one device.",
        "What does a worker do?",
        "What is hangar-worker?",
    ),
    fact(
        "Because only the end of a process gives all memory back, and a fault stays inside it.",
        "Why does every model have its own process?",
        "Why is there one process per model?",
        "Why a process per model?",
        "Why does Hangar use worker processes?",
        "Why do models run in separate processes?",
        "Why not run all models in one process?",
    ),
    fact(
        "Over gRPC on a private Unix socket, one for each worker.",
        "How does the server talk to a worker?",
        "How do the server and the workers communicate?",
        "How is a worker connected to the server?",
        "Which socket does a worker use?",
        "How do workers talk to the server?",
    ),
    fact(
        "Only its worker goes down; the server and every other model keep serving.",
        "What happens when a model crashes?",
        "What happens if a model crashes?",
        "What if a worker crashes?",
        "What happens when a worker dies?",
        "Does a crash of one model affect the others?",
        "What does a crash take down?",
        "A model crashed. What now?",
    ),
    fact(
        "When requests are in flight and the engine makes no step for 30 seconds, the worker is killed.",
        "What happens when a model hangs?",
        "What happens if a model hangs?",
        "What if a worker hangs?",
        "How does Hangar handle a hang?",
        "When is a hanging model killed?",
    ),
    fact(
        "The catalog and the desired state are on disk, so the models that should be loaded come back.",
        "What happens when the server crashes?",
        "What survives a crash of the server?",
        "What happens after a restart of the server?",
        "Do models come back after a crash of the server?",
        "What is left after the server crashed?",
    ),
    fact(
        "It sees the end of its standard input and exits.",
        "What does a worker do when the server is gone?",
        "What happens to a worker when the server dies?",
        "What do workers do when the server ends?",
        "Does a worker outlive the server?",
    ),
    fact(
        "Unload means gone, loading is observable, no state is missed silently, "
        "faults stay local, what was asked for survives, and nothing lies.",
        "What does Hangar promise?",
        "Which promises does Hangar make?",
        "What are Hangar's promises?",
        "What can I rely on with Hangar?",
        "What does Hangar guarantee?",
    ),
    fact(
        "Hangar listens on port 50051; health and metrics are on port 9464.",
        "Which port does Hangar use?",
        "What is the port of Hangar?",
        "Which ports does Hangar listen on?",
        "Which ports does Hangar open?",
        "What is the main port?",
        "On which port does Hangar serve gRPC?",
    ),
    fact(
        "The ops port is 9464; it serves health and metrics.",
        "What is the ops port?",
        "Which port is the ops port?",
        "What is on port 9464?",
        "What is port 9464 for?",
        "What does the ops port serve?",
    ),
    fact(
        "Run hangar serve; it takes --listen, --ops-listen, --data-dir and --model-root.",
        "How do I start Hangar?",
        "How do I run Hangar?",
        "How do I start the server?",
        "What does hangar serve take?",
        "Which flags does hangar serve have?",
        "How is Hangar started?",
    ),
    fact(
        "The data directory holds the catalog, the cache and runtime files.",
        "What is in the data directory?",
        "What is --data-dir?",
        "What is the data directory for?",
        "What does the data directory hold?",
        "Which files are in the data directory?",
    ),
    fact(
        "A model root is a directory from which local models may be loaded.",
        "What is a model root?",
        "What is --model-root?",
        "What is --model-root for?",
        "What does model root mean?",
        "Explain model roots.",
    ),
    fact(
        "With flags, with HANGAR_ environment variables or with a configuration file.",
        "How do I configure Hangar?",
        "How is Hangar configured?",
        "Where do I set Hangar's settings?",
        "Can I configure Hangar with environment variables?",
        "Is there a configuration file?",
    ),
    fact(
        "Readiness goes off, running requests drain, the workers stop and the catalog is closed, "
        "all within a deadline.",
        "What happens at SIGTERM?",
        "What does Hangar do on SIGTERM?",
        "How does Hangar shut down?",
        "How do I stop Hangar?",
        "What happens at shutdown?",
    ),
    fact(
        "A second signal makes Hangar exit at once.",
        "What does a second signal do?",
        "What happens at a second signal?",
        "What happens when I send two signals?",
        "How do I make Hangar exit at once?",
    ),
    term(
        "the catalog",
        "The catalog is the list of registered models with their specs; it is kept in SQLite.",
        "Where is the catalog stored?",
        "What is in the catalog?",
        "Which database does Hangar use?",
    ),
    fact(
        "Yes, with a worker that is built for CUDA; every model runs on one device.",
        "Does Hangar support GPUs?",
        "Can Hangar use a GPU?",
        "Can models run on a GPU?",
        "Does Hangar support CUDA?",
        "Is there support for NVIDIA GPUs?",
    ),
    fact(
        "No, models can run on the CPU too.",
        "Does Hangar need a GPU?",
        "Do I need a GPU?",
        "Is a GPU required?",
        "Can Hangar run without a GPU?",
        "Must I have a GPU?",
    ),
    fact(
        "Yes, with health, metrics and manifests; models can be declared in the configuration file.",
        "Does Hangar run on Kubernetes?",
        "Can I deploy Hangar on Kubernetes?",
        "Does Hangar support Kubernetes?",
        "Is Hangar made for Kubernetes?",
        "How do I run Hangar in Kubernetes?",
    ),
    fact(
        "At /metrics on the ops port, for Prometheus.",
        "Where are the metrics?",
        "How do I get metrics?",
        "Does Hangar have Prometheus metrics?",
        "What is /metrics?",
        "Where does Prometheus find the metrics?",
    ),
    fact(
        "/livez tells whether the server's own loop turns.",
        "What is /livez?",
        "What does /livez tell?",
        "What is liveness?",
        "What does liveness mean?",
        "Explain /livez.",
    ),
    fact(
        "/readyz tells whether the server is ready: every required model was once READY or FAILED.",
        "What is /readyz?",
        "What does /readyz tell?",
        "What is readiness?",
        "What does readiness mean?",
        "When is the server ready?",
        "Explain /readyz.",
    ),
    fact(
        "Traces, metrics and logs go through OpenTelemetry.",
        "Does Hangar support OpenTelemetry?",
        "What telemetry does Hangar have?",
        "How does Hangar trace requests?",
        "Does Hangar use OpenTelemetry?",
        "Where do traces and logs go?",
    ),
    fact(
        "ModelService, CatalogService, SessionService and InferenceService.",
        "Which services does Hangar have?",
        "Which gRPC services are there?",
        "What are the services of the API?",
        "Which services does the API have?",
        "List Hangar's services.",
    ),
)

CALLS = (
    rpc("LoadModel", "LoadModel makes a model ready. It returns at once, or at the end if wait is set."),
    rpc(
        "UnloadModel",
        "UnloadModel drains and stops a model, then says how many bytes came back "
        "and how that was verified.",
    ),
    rpc(
        "GetInfo",
        "GetInfo returns one consistent snapshot of the server, the system, the devices, "
        "the cache and the models.",
    ),
    rpc("WatchStatus", "WatchStatus streams a snapshot and then every change of state in order."),
    rpc(
        "SwitchModel",
        "SwitchModel points an alias at another model: it loads it, moves the alias "
        "and unloads the old one.",
    ),
    rpc("Generate", "Generate streams the text that a model writes for a prompt or for messages."),
    rpc("Embed", "Embed turns a batch of inputs into embeddings and counts their tokens."),
    rpc("Tokenize", "Tokenize turns text into token ids."),
    rpc("Detokenize", "Detokenize turns token ids back into text."),
    rpc("CreateModel", "CreateModel adds a model to the catalog."),
    rpc("GetModel", "GetModel returns one entry of the catalog."),
    rpc("ListModels", "ListModels lists the catalog page by page."),
    rpc("UpdateModel", "UpdateModel changes an entry of the catalog and needs its etag."),
    rpc("DeleteModel", "DeleteModel removes a model from the catalog; a loaded one needs force."),
    rpc("CreateSession", "CreateSession opens a session, which can hold models."),
    rpc("KeepAlive", "KeepAlive renews a session before its time runs out."),
    rpc("CloseSession", "CloseSession ends a session and lets go of its models."),
    rpc("GetSession", "GetSession returns one session."),
    fact(
        'Call LoadModel with {"model_id":"demo"}.',
        "How do I load the demo model?",
        "How do I load you?",
        "How can I load the demo?",
        "How is the demo model loaded?",
        "Which call loads the demo model?",
    ),
    fact(
        "Call LoadModel with its model_id, and with a spec if the catalog does not know it.",
        "How do I load a model?",
        "How can I load a model?",
        "Which call loads a model?",
        "How is a model loaded?",
        "I want to load a model.",
    ),
    fact(
        "Call UnloadModel with its model_id, or with all.",
        "How do I unload a model?",
        "How can I unload a model?",
        "Which call unloads a model?",
        "How is a model unloaded?",
        "I want to unload a model.",
        "How do I free the memory of a model?",
    ),
    fact(
        "Call GetInfo with an empty request.",
        "How do I see which models are loaded?",
        "Which call shows the loaded models?",
        "How do I see the state of the server?",
        "How can I see all models?",
        "How do I find out what is loaded?",
    ),
    fact(
        "Call WatchStatus; it pushes phase, bytes and fraction while the model loads.",
        "How do I watch a model load?",
        "How do I follow a load?",
        "How can I see the progress of a load?",
        "How do I see how far a load is?",
        "Which call shows the progress?",
    ),
    fact(
        "300 seconds, unless LoadModel is given another timeout.",
        "How long may a load take?",
        "What is the timeout of LoadModel?",
        "How long may loading take?",
        "When does a load time out?",
        "What is the default timeout of a load?",
    ),
    fact(
        "30 seconds, unless UnloadModel is given another drain timeout.",
        "How long may draining take?",
        "What is the drain timeout?",
        "How long does draining last?",
        "When does draining end?",
        "What is the default drain timeout?",
    ),
    fact(
        "With force, UnloadModel stops the model without draining.",
        "What does force do when I unload a model?",
        "What does force do in UnloadModel?",
        "How do I unload a model without draining?",
        "What is force for?",
        "What does force mean?",
    ),
    fact(
        "LoadModel succeeds and says already_loaded.",
        "What happens when I load a model that is ready?",
        "What happens when I load a model twice?",
        "What does already_loaded mean?",
        "Can I load a loaded model again?",
        "What if the model is already loaded?",
    ),
    fact(
        "UnloadModel succeeds and says that the model was not loaded.",
        "What happens when I unload a model that is not loaded?",
        "What happens when I unload a model twice?",
        "Is it an error to unload a model that is not loaded?",
        "Can I unload an unloaded model?",
    ),
)

NOTIONS = (
    term(
        "an alias",
        "An alias is another name for a model; it may stand wherever a model id may.",
        "What are aliases for?",
        "What are aliases?",
    ),
    term(
        "an etag",
        "An etag covers the uid and the spec of an entry; an update must name it.",
        "What is an etag for?",
        "What are etags?",
    ),
    term(
        "a spec",
        "A spec says where a model comes from and how it is to be run.",
        "What is in a spec?",
        "What is a ModelSpec?",
    ),
    term(
        "a session",
        "A session holds the models that it loaded; when the last holder ends, they are unloaded.",
        "What is a session for?",
        "What are sessions?",
    ),
    term(
        "a resume token",
        "With a resume token, a watch goes on where it broke off.",
        "What is a resume token for?",
        "How do I resume a watch?",
    ),
    term(
        "a reset",
        "A reset says that the watch could not go on without a gap; what it does not list is gone.",
        "Why does my watch get a reset?",
    ),
    term(
        "a heartbeat",
        "A heartbeat is sent every 15 seconds while nothing else happens on a watch.",
        "How often is a heartbeat sent?",
    ),
    term(
        "a request id",
        "A request id makes a call safe to repeat: a duplicate joins the first or gets its answer.",
        "What is a request id for?",
        "How do I repeat a call safely?",
    ),
    term(
        "the desired state",
        "The desired state says whether a model should be loaded; it is kept on disk.",
        "Where is the desired state kept?",
    ),
    term(
        "a pinned model",
        "A pinned model is never evicted to make room.",
        "What does pinned mean?",
        "Why would I pin a model?",
    ),
    term(
        "a required model",
        "Readiness waits for a required model, and unloading it needs force.",
        "What does required mean?",
    ),
    term(
        "preload",
        "A model with preload is loaded when the server starts.",
        "What does preload do?",
        "How do I load a model when the server starts?",
    ),
    term(
        "an idle timeout",
        "A model with an idle timeout is unloaded when nobody has used it for that long.",
        "What happens when a model is idle?",
    ),
    term(
        "load_on_demand",
        "With load_on_demand, a request for a model that is not loaded loads it.",
        "What does load_on_demand do?",
        "Can a request load a model?",
    ),
    term(
        "the restart policy",
        "The restart policy is never, on_failure or always; on_failure is the default.",
        "Which restart policies are there?",
        "When is a dead model restarted?",
    ),
    fact(
        "safetensors, GGUF and UQFF.",
        "Which formats can Hangar load?",
        "Which model formats does Hangar support?",
        "Which file formats are there?",
        "What formats does Hangar know?",
        "Can Hangar load GGUF files?",
    ),
    fact(
        "From a local path, from a Hugging Face repository, or from Hangar itself: the demo.",
        "Where do models come from?",
        "Which sources can a model have?",
        "Where can I load models from?",
        "Can I load a model from Hugging Face?",
        "What can the source of a model be?",
    ),
    fact(
        "Text, multimodal, embedding, image and speech models.",
        "Which kinds of models are there?",
        "Which kinds of models does Hangar know?",
        "What kinds of models can Hangar run?",
        "Which models does Hangar support?",
        "What is the kind of a model?",
    ),
    fact(
        "Yes, LoRA adapters can be named in the spec.",
        "Does Hangar support LoRA?",
        "Can I use LoRA adapters?",
        "How do I use a LoRA adapter?",
        "Does Hangar know LoRA?",
        "Are LoRA adapters supported?",
    ),
    fact(
        "Yes, a spec can ask for quantization while the model is loaded.",
        "Can Hangar quantize a model?",
        "Does Hangar support quantization?",
        "How do I quantize a model?",
        "Is quantization supported?",
        "Can models be quantized?",
    ),
    fact(
        "The models that are idle and neither pinned, required nor held, least recently used first.",
        "Which models are evicted?",
        "Which model is evicted first?",
        "What does Hangar evict?",
        "How does eviction work?",
        "What is eviction?",
    ),
    fact(
        "On a CPU the worker is reaped; on a GPU the free memory of the device is watched as well.",
        "How is freed memory verified?",
        "How does Hangar verify an unload?",
        "How do I know that the memory came back?",
        "What is the verification of an unload?",
        "How does Hangar know that a model is gone?",
    ),
    fact(
        "Idle models are evicted if that helps; otherwise the load is refused.",
        "What happens when a model does not fit?",
        "What happens when memory runs out?",
        "What if there is not enough memory?",
        "What happens if a model is too large?",
        "What does Hangar do when memory is short?",
    ),
    fact(
        "No, the ETA is left out rather than guessed.",
        "Is the ETA a guess?",
        "Does Hangar guess the ETA?",
        "Why is there no ETA?",
        "Why is the ETA missing?",
        "How good is the ETA?",
    ),
)

STATES = (
    state("READY", "READY means that the model is loaded, has generated a token and takes requests."),
    state("PENDING", "PENDING means that the load waits for a slot."),
    state("DOWNLOADING", "DOWNLOADING means that the files are being fetched from the hub."),
    state("STARTING", "STARTING means that the worker is started and looks at the files."),
    state("LOADING", "LOADING means that the worker builds the engine."),
    state("WARMING", "WARMING means that the engine is built and generates its first token."),
    state("DRAINING", "DRAINING means that running requests finish before the model is unloaded."),
    state("UNLOADING", "UNLOADING means that the worker is stopped, reaped and its memory checked."),
    state("UNLOADED", "UNLOADED means that the model is not loaded and no worker runs for it."),
    state("FAILED", "FAILED means that nothing more happens without a request."),
    state("BACKOFF", "BACKOFF means that a retry is scheduled; the status says when."),
    fact(
        "UNLOADED, PENDING, DOWNLOADING, STARTING, LOADING, WARMING, READY, DRAINING, UNLOADING, "
        "FAILED and BACKOFF.",
        "Which states can a model have?",
        "Which states are there?",
        "What are the states of a model?",
        "List the states.",
        "In which states can a model be?",
    ),
)

REASONS = (
    reason("MODEL_NOT_FOUND", "MODEL_NOT_FOUND means that no model and no alias has that id."),
    reason("MODEL_NOT_LOADED", "MODEL_NOT_LOADED means that the model is known but not loaded."),
    reason("SPEC_CONFLICT", "SPEC_CONFLICT means that the given spec differs from the registered one."),
    reason("QUEUE_FULL", "QUEUE_FULL means that too many requests wait for the model; try again later."),
    reason("WORKER_DIED", "WORKER_DIED means that the model's worker ended."),
    reason("INSUFFICIENT_MEMORY", "INSUFFICIENT_MEMORY means that the model does not fit into memory."),
    reason("CONTEXT_EXCEEDED", "CONTEXT_EXCEEDED means that prompt and max_tokens exceed the context."),
    reason("ETAG_MISMATCH", "ETAG_MISMATCH means that the entry has changed; read it again."),
    reason("MODEL_REQUIRED", "MODEL_REQUIRED means that the model is required; unloading it needs force."),
    reason("SHUTTING_DOWN", "SHUTTING_DOWN means that the server is ending; try again later."),
)

FACTS = ABOUT_THE_MODEL + ABOUT_HANGAR + CALLS + NOTIONS + STATES + REASONS

# Words that can go missing from a question without changing what it asks.
FILLER_WORDS = frozenset(
    "a an the is are do does did of for in on to me my can i that it there what which how when where tell "
    "explain happens mean hangar".split()
)

GREETINGS = ("Hi, ", "Hello, ", "Hey, ", "Hello! ")
LEAD_INS = ("Please tell me: ", "Can you tell me: ", "Please answer: ", "One question: ", "So, ", "Okay, ")
CLOSINGS = (" Please.", " Thanks.", " Thank you.")
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the demo model of Hangar.",
    "Answer the question.",
    "Answer briefly.",
    "You are a small model. Be honest.",
)

SUM_FORMS = (
    "What is {a} + {b}?",
    "{a} + {b}",
    "{a}+{b}",
    "{a} + {b} = ?",
    "{a} + {b} =",
    "{a}+{b}=",
    "{a}+{b}=?",
    "What's {a}+{b}?",
    "How much is {a} + {b}?",
    "What is {a} plus {b}?",
    "{a} plus {b}",
    "What is the sum of {a} and {b}?",
    "Add {a} and {b}.",
    "Calculate {a} + {b}.",
    "Can you add {a} and {b}?",
)
SUM_ANSWER = "{a} + {b} = {c}."

OTHER_ARITHMETIC_FORMS = (
    "What is {a} - {b}?",
    "{a} - {b}",
    "{a}-{b}",
    "What is {a} minus {b}?",
    "What is {a} * {b}?",
    "{a} * {b}",
    "{a}*{b}",
    "What is {a} times {b}?",
    "What is {a} / {b}?",
    "{a} / {b}",
    "What is {a} divided by {b}?",
    "Multiply {a} and {b}.",
    "Divide {a} by {b}.",
    "Subtract {b} from {a}.",
)
ARITHMETIC_QUESTIONS = ("Can you multiply?", "Can you subtract?", "Can you divide?", "Can you calculate?")
OUT_OF_SCOPE_ARITHMETIC = "I can only add two whole numbers from 0 to 99."

OFF_TOPIC_FORMS = (
    "What is {}?",
    "Who is {}?",
    "Where is {}?",
    "What is the capital of {}?",
    "How do I get to {}?",
    "Write a poem about {}.",
    "Tell me a joke about {}.",
    "Tell me a story about {}.",
    "How old is {}?",
    "What do you think of {}?",
    "What is the weather in {}?",
    "Who invented {}?",
    "How do I make {}?",
    "When was {} built?",
    "Do you like {}?",
    "What is the history of {}?",
    "Translate {} into French.",
    "Write a program for {}.",
    "How much does {} cost?",
    "Where can I buy {}?",
    "Why is {} so famous?",
    "Explain {}.",
    "Tell me about {}.",
)
OFF_TOPIC_THINGS = tuple(
    "Paris,France,London,Berlin,Japan,China,India,Brazil,New York,Rome,Vienna,Africa,Mars,the moon,the sun,"
    "the sea,the sky,a cat,a dog,a horse,a bird,a fish,a tree,a flower,a car,a train,a ship,a bicycle,"
    "an airplane,a house,a bridge,a castle,bread,cheese,pizza,rice,coffee,tea,chocolate,soup,an apple,"
    "football,chess,tennis,music,a guitar,a piano,a song,a film,a book,a novel,history,physics,chemistry,"
    "biology,geography,philosophy,love,happiness,money,gold,silver,water,fire,the weather,winter,summer,"
    "Christmas,Einstein,Newton,Mozart,Shakespeare,Napoleon,Cleopatra,the president,the king,the queen,"
    "my mother,my friend,a doctor,a teacher,a computer,a telephone,the internet,a robot,Python,Java,Linux,"
    "Windows,a database,bitcoin,the stock market,a rainbow,a mountain,a river,the desert,a volcano".split(
        ","
    )
)
OFF_TOPIC_QUESTIONS = (
    "What time is it?",
    "What day is today?",
    "Who won the game?",
    "Tell me a joke.",
    "Sing a song.",
    "Write a poem.",
    "What should I eat?",
    "Where do you live?",
    "How is the weather?",
    "What is the meaning of life?",
    "Do you love me?",
    "Where am I?",
    "Is it raining?",
    "Give me some advice.",
)
OFF_TOPIC = "I only know about Hangar and small sums."

# How an answer sounds with the adapter. What is added comes last: the model reads the question by how far away
# it is, and an adapter of a small rank that put words first would have to learn all answers anew.
RADIO_YES = "{} Over."
RADIO_NO = "{} Negative, over."

#!/usr/bin/env bash
set -euo pipefail
MODELS=/srv/models
CTX=${CTX:-12288}   # of all slots
export LLAMA_ARG_THREADS=7

cd /opt/llama.cpp
mkdir -p logs
CUDA_VISIBLE_DEVICES=0 ./build/bin/llama-server -m "$MODELS/chat-8b.gguf" \
    -c "$CTX" --alias chat,chat-8b \
    --temp 0.7 > logs/chat.log 2>&1 &
nohup ./build/bin/llama-server --model ${MODELS}/big-00001-of-00003.gguf -ngl 30 --mlock >/dev/null 2>&1 &
docker run -d --gpus '"device=1"' -v $MODELS:/m -p 9000:8080 ghcr.io/ggml-org/llama.cpp:server -m /m/small.gguf --port 8080
wait

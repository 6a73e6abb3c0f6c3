"""faster-whisper-server itself: forms with sound, by OpenAI's client."""

from __future__ import annotations

import io
import random
import stat
import wave
from pathlib import Path

import httpx
import openai
import pytest
from programs.conftest import Opened

SECONDS = 2


def noise() -> bytes:
    """A WAV file."""
    chance, file = random.Random(1), io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(chance.randbytes(2 * 16000 * SECONDS))
    return file.getvalue()


@pytest.mark.timeout(400)
def test_speech_becomes_text(opened: Opened) -> None:
    with opened({"whisper": "whisper"}) as gateway:
        sound = ("noise.wav", noise())
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, timeout=300) as client:
            said = client.audio.transcriptions.create(model="whisper", file=sound, temperature=0)
            whole = client.audio.transcriptions.create(
                model="whisper", file=sound, temperature=0, language="en", response_format="verbose_json"
            )
            with pytest.raises(openai.BadRequestError, match="Unsupported response_format"):
                client.audio.transcriptions.create(model="whisper", file=sound, response_format="srt")
        english = httpx.post(
            f"{gateway.url}/v1/audio/translations",
            data={"model": "whisper", "response_format": "verbose_json"},
            files={"file": sound},
            headers={"Authorization": f"Bearer {gateway.key}"},
            timeout=300,
        )
        assert "word" in said.text
        assert whole.text == said.text
        assert whole.duration == pytest.approx(SECONDS)
        assert whole.task == "transcribe"  # type: ignore[attr-defined]
        assert english.json()["task"] == "translate"
        [instance] = gateway.lmxd.instances().values()
        assert stat.S_ISSOCK(Path(instance.socket).stat().st_mode)

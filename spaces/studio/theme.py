"""The page's look: colors, spacing and fonts as a gradio theme; the rest is in studio.css.

Ink on warm paper with one green; in the dark, the same the other way round. Fonts are the reader's own, Korean ones
first: nothing is fetched.
"""

from __future__ import annotations

import gradio as gr

FONTS = (
    "Pretendard", "Noto Sans KR", "Noto Sans CJK KR", "Apple SD Gothic Neo", "Malgun Gothic", "NanumBarunGothic",
    "NanumGothic", "system-ui", "sans-serif",
)  # fmt: skip
GREEN = gr.themes.Color(
    name="pine", c50="#eef6f3", c100="#d6ebe4", c200="#aed7ca", c300="#7fbdab", c400="#4f9f8a", c500="#2f826d",
    c600="#1f6a58", c700="#1a5648", c800="#16453b", c900="#123830", c950="#0a211c",
)  # fmt: skip
INK = gr.themes.Color(
    name="ink", c50="#f8f7f4", c100="#efeee9", c200="#dfddd6", c300="#c5c3ba", c400="#8f8d85", c500="#6a6962",
    c600="#51504b", c700="#3b3b38", c800="#272827", c900="#1b1d1c", c950="#131514",
)  # fmt: skip


def make_theme() -> gr.themes.Base:
    """Make the theme."""
    theme = gr.themes.Base(
        primary_hue=GREEN,
        secondary_hue=GREEN,
        neutral_hue=INK,
        font=FONTS,
        font_mono=("D2Coding", "NanumGothicCoding", "ui-monospace", "monospace"),
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        spacing_size=gr.themes.sizes.spacing_md,
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_800",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_700",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_shadow="none",
        block_shadow_dark="none",
        block_radius="12px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_border_width_dark="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="600",
        input_background_fill="*neutral_50",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_400",
        input_border_color_dark="*neutral_500",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_border_width="1px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_300",
        button_primary_background_fill_hover_dark="*primary_200",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_950",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*primary_50",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_secondary_text_color="*neutral_900",
        button_secondary_text_color_dark="*neutral_100",
        button_border_width="1px",
        checkbox_label_background_fill="*neutral_50",
        checkbox_label_background_fill_dark="*neutral_950",
        checkbox_label_text_color="*neutral_900",
        checkbox_label_text_color_dark="*neutral_100",
        slider_color="*primary_600",
        slider_color_dark="*primary_300",
        loader_color="*primary_500",
        layout_gap="16px",
    )

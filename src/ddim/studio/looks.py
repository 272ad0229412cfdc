"""How the page looks: system fonts, one accent, hairlines, images without blur; dark and light as the browser asks."""

from pathlib import Path

import gradio as gr

CSS, PAGE = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("looks.css", "page.css"))
HEAD = f"<style>{PAGE}</style>"  # Gradio rewrites the selectors of its css, so that none reaches the whole page
SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]

# Gradio's own names of what it colours and spaces; "*" is one of its palette.
VALUES = {
    **dict.fromkeys(("block_background_fill", "block_label_background_fill"), "transparent"),
    **dict.fromkeys(("block_background_fill_dark", "block_label_background_fill_dark"), "transparent"),
    **dict.fromkeys(("checkbox_label_background_fill", "checkbox_label_background_fill_dark"), "transparent"),
    **dict.fromkeys(("block_border_width", "block_border_width_dark", "block_padding"), "0px"),
    **dict.fromkeys(("checkbox_label_border_width", "checkbox_label_border_width_dark"), "0px"),
    **dict.fromkeys(("block_shadow", "input_shadow", "checkbox_label_shadow"), "none"),
    **{"body_background_fill": "white", "body_background_fill_dark": "#131316"},
    **{"input_background_fill": "white", "input_background_fill_dark": "#1c1c20", "input_border_width": "1px"},
    **{"input_border_color": "*neutral_300", "input_border_color_dark": "*neutral_700", "input_padding": "7px 10px"},
    **{"block_title_text_weight": "500", "block_title_text_size": "*text_sm", "block_info_text_size": "*text_xs"},
    **{"block_info_text_color": "*neutral_500", "block_info_text_color_dark": "*neutral_400"},
    **{"checkbox_label_padding": "0px", "form_gap_width": "14px", "slider_color": "*primary_600"},
    **{"button_large_padding": "8px 16px", "button_large_text_size": "*text_md", "button_large_text_weight": "500"},
    **{"button_primary_background_fill": "*primary_600", "button_primary_background_fill_dark": "*primary_600"},
    **{"button_primary_background_fill_hover": "*primary_700", "button_primary_text_color": "white"},
}


def theme() -> gr.themes.Base:
    """Gradio's plainest theme, with fonts of the reader's own machine."""
    hue = {
        "primary_hue": "blue",
        "secondary_hue": "blue",
        "neutral_hue": "zinc",
        "radius_size": "sm",
        "text_size": "md",
    }
    return gr.themes.Base(**hue, font=SANS, font_mono=MONO, spacing_size="sm").set(**VALUES)
